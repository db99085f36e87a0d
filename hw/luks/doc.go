// Package luks opens LUKS1 and LUKS2 volumes, and proves offline that a key opens one.
//
// It owns reading and judging headers (detached ones and the second copy of LUKS2 included), deriving volume keys, the
// way of a volume key from one process to another inside the kernel, and dm-crypt tables. It needs dm-crypt, the keys
// subsystem and seccomp (LUKS1 On-Disk Format 1.2.3, LUKS2 On-Disk Format 1.1.3,
// Documentation/admin-guide/device-mapper/dm-crypt.rst). It never writes to a device, never repairs a header, never
// puts a key into a table, a message or a result, and runs no program.
//
// Opening takes two processes, each a short-lived child of whoever wants volumes opened:
//
//   - open is privileged and parses nothing. OpenBatch is its body: an anonymous session keyring, a derive process that
//     inherits it, threads that are linked to it, and a mapping for each result as it comes.
//   - derive parses hostile bytes and holds secrets. Its body is secret.ProtectProcess, Confine (no capabilities, no new
//     system calls beyond reading, computing and add_key), Derive. Volume keys leave it as logon keys in the session
//     keyring it shares with open, described by a nonce; results name the description.
//
// The dm-crypt target finds the key by that description, the key is unlinked, and the keyring ends with open. A derive
// that crashes on one volume costs that volume alone: what it had not answered is tried again one by one. One that a volume
// gives endless work goes on with the others, and is ended by the deadline.
//
// Unlocking does not go through luks.go, which gives its volume key to nobody (only into a table, in hex), opens its
// files by path, knows no second header and neither cbc nor errors of single slots; it serves the tests as a second
// opinion beside cryptsetup.
package luks
