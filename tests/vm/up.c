/*
 * A service of the boot benchmark: `up NUMBER COUNT` says in the kernel's log that it is up, and
 * stays. The last one by number then waits until all have said so, tells on the console how long
 * that took by the kernel's clock and how much memory the init holds, and switches the machine off.
 * It sleeps between looks, so that it takes no time from those that are still to come.
 */
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>

/* Microseconds from the start of /init to the last service, or 0 if some are not up yet. */
static long look(int count)
{
	char seen[100] = { 0 }, record[8192];
	long began = 0, last = 0;
	int found = 0, log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	for (;;) {
		ssize_t length = read(log, record, sizeof record - 1);
		if (length <= 0)
			break;
		record[length] = 0;
		long time;
		int number;
		char *text = strchr(record, ';');
		if (!text || sscanf(record, "%*d,%*d,%ld", &time) != 1)
			continue;
		if (!strncmp(text, ";Run /init ", 11))
			began = time;
		if (sscanf(text, ";up %d", &number) == 1 && !seen[number % 100]) {
			seen[number % 100] = 1;
			found++;
			last = time;
		}
	}
	close(log);
	return found < count ? 0 : last - began;
}

/*
 * Adds the memory of a process, all of it and what it shares with no file, but not of our own kind.
 * The figures in `status` may lag by a few hundred kilobytes; these are counted when they are read.
 */
static void memory(const char *dir, long *all, long *own)
{
	char path[300], line[200] = "";
	snprintf(path, sizeof path, "%s/comm", dir);
	FILE *file = fopen(path, "r");
	if (file) {
		if (fgets(line, sizeof line, file) && !strcmp(line, "up\n"))
			*line = 0;
		fclose(file);
	}
	snprintf(path, sizeof path, "%s/smaps_rollup", dir);
	file = *line ? fopen(path, "r") : NULL;
	if (!file)
		return;
	long value;
	while (fgets(line, sizeof line, file)) {
		if (sscanf(line, "Rss: %ld", &value) == 1)
			*all += value;
		if (sscanf(line, "Anonymous: %ld", &value) == 1)
			*own += value;
	}
	fclose(file);
}

int main(int argc, char **argv)
{
	int count = argc > 2 ? atoi(argv[2]) : 0;
	int log = open("/dev/kmsg", O_WRONLY);
	/* dprintf would seek, which this file refuses. */
	char line[20];
	if (write(log, line, snprintf(line, sizeof line, "up %.9s\n", argv[1])) < 0)
		return 1;
	close(log);
	if (atoi(argv[1]) != count)
		for (;;)
			pause();

	long time;
	while (!(time = look(count)))
		usleep(50000);
	/* An init may have to tidy up after the last start. */
	usleep(500000);

	mount("proc", "/proc", "proc", 0, NULL);
	long first[2] = { 0, 0 }, others[2] = { 0, 0 };
	glob_t found;
	glob("/proc/[0-9]*", 0, NULL, &found);
	for (size_t at = 0; at < found.gl_pathc; at++) {
		long *sum = strcmp(found.gl_pathv[at], "/proc/1") ? others : first;
		memory(found.gl_pathv[at], &sum[0], &sum[1]);
	}
	int console = open("/dev/console", O_WRONLY);
	dprintf(console, "\nmeasured %ld %ld %ld %ld %ld\n", time, first[0], first[1], others[0], others[1]);
	reboot(RB_POWER_OFF);
	return 1;
}
