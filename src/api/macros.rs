//! One declaration of a type gives the type, how it is read and written, and its schema.
//!
//! What is declared is also kept as a text, which [`super::schema`] reads when somebody asks for it.
//! A line of text a member takes less room in the program than tables of pointers, or code.

/// Objects: `member: Type` is always there, `member?: Type` may be absent.
macro_rules! objects {
    ($list:ident: $(
        $(#[doc = $about:literal])+
        $name:ident {
            $($(#[doc = $doc:literal])+ $member:ident $(? $($absent:lifetime)?)? : $kind:ty),+ $(,)?
        }
    )+) => {
        $(
            $(#[doc = $about])+
            #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
            pub struct $name {
                $(
                    $(#[doc = $doc])+
                    $($($absent)? #[serde(default, skip_serializing_if = "Option::is_none")])?
                    pub $member: $crate::api::macros::member!($kind $(, $($absent)? absent)?),
                )+
            }

            impl $crate::api::Declared for $name {
                const DECLARATION: &'static str = concat!(
                    "object ", stringify!($name), ": #", $($about,)+
                    $(
                        "\n", stringify!($member), $($($absent)? "?",)? ": ", stringify!($kind),
                        "#", $($doc,)+
                    )+
                );
            }
        )+

        pub(super) const $list: &[&str] =
            &[$(<$name as $crate::api::Declared>::DECLARATION),+];
    };
}

/// Texts of which there are just a few.
macro_rules! words {
    ($list:ident: $(
        $(#[doc = $about:literal])+
        $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $word:literal),+ $(,)? }
    )+) => {
        $(
            $(#[doc = $about])+
            #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
            pub enum $name {
                $($(#[doc = $doc])+ #[serde(rename = $word)] $variant,)+
            }

            impl $name {
                /// All of them.
                pub const ALL: &[Self] = &[$(Self::$variant),+];

                /// The word itself.
                #[must_use]
                pub const fn text(self) -> &'static str {
                    match self {
                        $(Self::$variant => $word,)+
                    }
                }

                /// The one that is called so.
                #[must_use]
                pub fn named(word: &str) -> Option<Self> {
                    Self::ALL.iter().copied().find(|known| known.text() == word)
                }
            }

            impl std::fmt::Display for $name {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.pad(self.text())
                }
            }

            impl $crate::api::read::Param for $name {
                const IS_TEXT: bool = true;

                fn read(value: &serde_json::Value) -> Option<Self> {
                    Self::named(value.as_str()?)
                }

                fn must() -> String {
                    let words: Vec<&str> = Self::ALL.iter().map(|word| word.text()).collect();
                    $crate::api::read::one_of(&words)
                }
            }

            impl $crate::api::Declared for $name {
                const DECLARATION: &'static str = concat!(
                    "words ", stringify!($name), ": #", $($about,)+
                    $("\n", $word, ": #", $($doc,)+)+
                );
            }
        )+

        pub(super) const $list: &[&str] =
            &[$(<$name as $crate::api::Declared>::DECLARATION),+];
    };
}

/// Objects of several kinds, one member of which tells which it is.
macro_rules! tagged {
    ($list:ident: $(
        $(#[doc = $about:literal])+
        $name:ident by $tag:literal {
            $(
                $(#[doc = $doc:literal])+
                $variant:ident = $word:literal {
                    $(
                        $(#[doc = $what:literal])+
                        $member:ident $(? $($absent:lifetime)?)? : $kind:ty
                    ),* $(,)?
                }
            ),+ $(,)?
        }
    )+) => {
        $(
            $(#[doc = $about])+
            #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
            #[serde(tag = $tag)]
            pub enum $name {
                $(
                    $(#[doc = $doc])+
                    #[serde(rename = $word)]
                    $variant {
                        $(
                            $(#[doc = $what])+
                            $($($absent)? #[serde(default, skip_serializing_if = "Option::is_none")])?
                            $member: $crate::api::macros::member!($kind $(, $($absent)? absent)?),
                        )*
                    },
                )+
            }

            impl $crate::api::Declared for $name {
                const DECLARATION: &'static str = concat!(
                    "tagged ", stringify!($name), ": ", $tag, "#", $($about,)+
                    $(
                        "\n=", $word, ": #", $($doc,)+
                        $(
                            "\n", stringify!($member), $($($absent)? "?",)? ": ",
                            stringify!($kind), "#", $($what,)+
                        )*
                    )+
                );
            }
        )+

        pub(super) const $list: &[&str] =
            &[$(<$name as $crate::api::Declared>::DECLARATION),+];
    };
}

/// Requests: `param: Type` must be there, `param?: Type` may be absent or null, and of `param~: Type`
/// also a value that makes no sense counts as absent, as it did with zinit 0.3.9.
macro_rules! requests {
    ($(
        $(#[doc = $about:literal])+
        $method:literal => $name:ident -> $reply:ty {
            $(
                $(#[doc = $doc:literal])+
                $param:ident $(? $($absent:lifetime)?)? $(~ $($lax:lifetime)?)? : $kind:ty
            ),* $(,)?
        }
    )+) => {
        $(
            $(#[doc = $about])+
            #[derive(Clone, Debug, PartialEq, serde::Serialize)]
            pub struct $name {
                $(
                    $(#[doc = $doc])+
                    $($($absent)? #[serde(skip_serializing_if = "Option::is_none")])?
                    $($($lax)? #[serde(skip_serializing_if = "Option::is_none")])?
                    pub $param: $crate::api::macros::member!(
                        $kind $(, $($absent)? absent)? $(, $($lax)? absent)?
                    ),
                )*
            }

            impl $crate::api::Request for $name {
                const METHOD: &'static str = $method;
                const DECLARATION: &'static str = concat!(
                    "request ", stringify!($name), ": ", stringify!($reply), "#", $($about,)+
                    $(
                        "\n", stringify!($param), $($($absent)? "?",)? $($($lax)? "?",)? ": ",
                        stringify!($kind), "#", $($doc,)+
                    )*
                );
                type Reply = $reply;

                fn read(params: &serde_json::Value) -> Result<Self, $crate::api::Wrong> {
                    let _ = params;
                    Ok(Self {
                        $(
                            $param: $crate::api::macros::read!(
                                params, stringify!($param)
                                $(, $($absent)? absent)? $(, $($lax)? lax)?
                            )?,
                        )*
                    })
                }
            }
        )+
    };
}

/// The type of a member.
macro_rules! member {
    ($kind:ty) => { $kind };
    ($kind:ty, absent) => { Option<$kind> };
}

/// How a parameter is read.
macro_rules! read {
    ($params:ident, $name:expr) => {
        $crate::api::read::required($params, $name)
    };
    ($params:ident, $name:expr, absent) => {
        $crate::api::read::optional($params, $name)
    };
    ($params:ident, $name:expr, lax) => {
        Ok::<_, $crate::api::Wrong>($crate::api::read::lax($params, $name))
    };
}

pub(crate) use {member, objects, read, requests, tagged, words};
