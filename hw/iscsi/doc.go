// Package iscsi logs in to iSCSI targets: login, CHAP and discovery in user space (RFC 7143), sessions in the kernel's
// iscsi_tcp over netlink, their recovery and their end.
//
// It owns the PDUs that an initiator sends before full feature phase, the negotiation of text keys, CHAP both ways,
// SendTargets, the requests of the kernel's iSCSI transport (include/scsi/iscsi_if.h), what sysfs says of sessions, and
// the records by which a successor takes sessions over. Discovery needs no kernel module and no rights. Sessions need
// CAP_SYS_ADMIN in the initial network namespace, and the modules that Modules lists.
//
// It never touches a session that it has no record of: those are iscsid's, or somebody else's. It never writes a
// secret to sysfs or to a record. It knows no appliance and no engine.
package iscsi
