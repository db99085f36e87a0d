// Package deploy proves in a machine of its own that v2v deploys to iSCSI disks: the machine is target and initiator in one. It has guest tests
// alone, and runs the shipped program.
package deploy
