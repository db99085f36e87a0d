// Command init is PID 1 of an appliance: the part that must not fail.
//
// It owns the first mounts, the cgroup tree, the orchestrator's life, every
// service as its parent and reaper, a store of descriptors, the watchdog and
// the last call to reboot(2). It decides nothing about the appliance: that is
// the orchestrator's, which it hears over one socket (package wire). It never
// waits for a disk, a console or the orchestrator, never starts a program but
// its own image (the stub, which becomes the program), and stays small: no
// net, no fmt, no JSON.
//
// # Signals
//
//	SIGINT               reboot (ctrl-alt-del, which the kernel hands to init)
//	SIGTERM              reboot (as busybox reboot asks)
//	SIGUSR1, SIGUSR2     halt, poweroff (as busybox halt and poweroff ask)
//	SIGRTMIN+3 to +6     halt, poweroff, reboot, kexec (as systemd's tools ask)
//	SIGPWR               the power fails: poweroff, unless the orchestrator decides otherwise
//	others               are told to the orchestrator
//
// SIGINT seven times within two seconds means now. The orchestrator is asked
// to take the machine down; if it does not take the request or does not
// finish within the time it named, init ends everything by itself.
//
// # Hand-over
//
// Asked to switch the root, init moves /dev, /proc, /sys and /run along,
// overwrites the initramfs's secrets and deletes it, starts the orchestrator
// that lives on, leaves the watchdog, and becomes the init of that root.
//
// # Kernel command line
//
//	initd.exe=PATH           the orchestrator to start first
//	initd.debug              say more on the console
//	initd.failure-time=TIME  how long the failure screen keeps the watchdog fed (10m; 0: for ever)
//	initd.watchdog=DEVICE    the device to open at start (/dev/watchdog); off: none
//	initd.watchdog-time=TIME its timeout, where the driver can (60s)
//	initd.locked             the ones above are ignored
package main

import "os"

// version is set by the build: -ldflags '-X main.version=…'.
var version = "unknown"

// stubName is argv[0] of the stub.
const stubName = "init-stub"

func main() {
	if os.Args[0] == stubName {
		os.Exit(stub(os.Args[1:]))
	}
	if os.Getpid() != 1 {
		os.Stderr.WriteString("init " + version + ": the first process of an initd appliance; it runs as PID 1 only.\n" +
			"To look at a running appliance: initd status\n")
		os.Exit(2)
	}
	boot()
	os.Exit(1) // not reached; the kernel panics and, by kernel.panic, restarts
}
