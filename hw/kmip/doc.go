// Package kmip fetches keys from KMIP servers (OASIS KMIP 1.0 to 1.4) over
// mutual TLS.
//
// It owns the way from a list of servers and requests to key bytes or typed
// errors: dialling several servers with health and staggered starts, TLS with a
// CA bundle, a client certificate and an optional pin, version negotiation,
// batches that fall back to single requests, exactly-one matching with
// verified attributes, and every key shape met in the field. Message bytes are
// decoded by kmip-go behind a structural check of our own, so that bytes from
// a broken server cost an error and never the process.
//
// It never writes a key anywhere but into the secret buffers that it returns,
// never sends a request that changes an object, never speaks KMIP 2.x (some
// servers answer a Locate of that version with every object), and never falls
// back to a weaker kind of TLS. Buffers inside crypto/tls hold key bytes for a
// while and cannot be wiped: run it in a short-lived process.
//
// Types marshal to JSON without secrets; the private key of TLS travels as a
// path or a file descriptor.
package kmip
