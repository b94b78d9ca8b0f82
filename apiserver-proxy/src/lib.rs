//! apiserver-proxy.
