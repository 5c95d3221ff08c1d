/* Loads a kernel for kexec: load KERNEL INITRAMFS WORDS */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int kernel = open(argv[1], O_RDONLY), initramfs = open(argv[2], O_RDONLY);
	long loaded = syscall(SYS_kexec_file_load, kernel, initramfs, strlen(argv[argc - 1]) + 1, argv[argc - 1], 0);
	if (loaded)
		perror("kexec_file_load");
	return loaded != 0;
}
