package vm

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// MiB in bytes.
const MiB = 1 << 20

// spec is a machine before it runs: data only.
type spec struct {
	name        string
	memory      int // MiB
	cpus        int
	kernel      string
	initramfs   []string
	append      []string
	disks       []*Disk
	nics        []nic
	watchdog    bool
	clock       time.Time
	expectPanic bool
	reboots     bool
	firmware    bool
	extra       []string
	from        string // a saved machine to go on with
}

// nic is one end of a wire in a machine.
type nic struct {
	wire *Wire
	mac  string
}

// Option changes a machine that New makes.
type Option func(*spec)

// Name of the machine: in messages, and of its folder below out/vm. "vm" if it is not given.
func Name(name string) Option { return func(s *spec) { s.name = name } }

// Memory in MiB; 512 if it is not given.
func Memory(mib int) Option { return func(s *spec) { s.memory = mib } }

// CPUs; 2 if it is not given.
func CPUs(n int) Option { return func(s *spec) { s.cpus = n } }

// Kernel to boot instead of the one that bootstrap fetched.
func Kernel(path string) Option { return func(s *spec) { s.kernel = path } }

// Watchdog gives the machine an Intel 6300ESB (module i6300esb) that resets it, which ends it (reason
// "watchdog"; see Exit).
func Watchdog() Option { return func(s *spec) { s.watchdog = true } }

// Clock sets what the machine's real-time clock says at the start; without it, the time of this machine. Linux reads the
// years 1970 to 2069 from it.
func Clock(t time.Time) Option { return func(s *spec) { s.clock = t } }

// ExpectPanic lets the guest's kernel panic without failing the test.
func ExpectPanic() Option { return func(s *spec) { s.expectPanic = true } }

// Reboots lets the machine go on after a reset by the guest; without it a reset ends QEMU.
func Reboots() Option { return func(s *spec) { s.reboots = true } }

// Keeps lets QEMU stop, and not end, when the guest switches itself off; see PoweredOff.
func Keeps() Option { return func(s *spec) { s.extra = append(s.extra, "-action", "shutdown=pause") } }

// Firmware lets the machine boot by its BIOS, which asks its network cards' own programs (iPXE: DHCP, and the disk that the answer names), and
// not QEMU's loader: no kernel, arguments and initramfs of the test's. The BIOS and what follows speak on the console.
func Firmware() Option { return func(s *spec) { s.firmware = true } }

// QEMU adds arguments as they are, such as -acpitable.
func QEMU(args ...string) Option { return func(s *spec) { s.extra = append(s.extra, args...) } }

func (s spec) clone() spec {
	s.initramfs = slices.Clone(s.initramfs)
	s.append = slices.Clone(s.append)
	s.disks = slices.Clone(s.disks)
	s.nics = slices.Clone(s.nics)
	s.extra = slices.Clone(s.extra)
	return s
}

// sockets names the unix sockets on which the harness listens before QEMU starts, so that nothing has to be waited for
// and no byte is lost.
type sockets struct {
	dir  string
	nics []string
}

func (s sockets) path(port string) string { return filepath.Join(s.dir, port) }

// ports to QEMU, by what they carry.
var portNames = [...]string{"console", "events", "qmp"}

// commandLine of the kernel. An oops panics and a panic resets at once, which ends QEMU: a broken guest never hangs.
func (s spec) commandLine() string {
	return strings.Join(append([]string{"console=ttyS0", "panic=-1", "oops=panic"}, s.append...), " ")
}

// machine is QEMU's type; without graphics SeaBIOS speaks on the serial line.
func (s spec) machine() string {
	if s.firmware {
		return "pc,graphics=off"
	}
	return "pc"
}

// args gives QEMU's command line. The machine is 'pc': it has two serial ports and an i8042 (ctrl-alt-del), and its
// ACPI takes and gives PCI devices without ports being planned for them.
func (s spec) args(accel Accelerator, initrd string, sock sockets) []string {
	args := []string{
		"-name", s.name,
		"-nodefaults", "-no-user-config", "-display", "none",
		"-machine", s.machine(), "-m", fmt.Sprint(s.memory), "-smp", fmt.Sprint(s.cpus),
	}
	args = append(args, accel.args()...)
	rom := ",romfile="
	if s.firmware {
		rom = ""
		args = append(args, "-boot", "order=n")
	} else {
		args = append(args, "-kernel", s.kernel, "-append", s.commandLine())
	}
	if initrd != "" {
		args = append(args, "-initrd", initrd)
	}
	for _, port := range portNames {
		args = append(args, "-chardev", fmt.Sprintf("socket,id=%s,path=%s", port, sock.path(port)))
	}
	args = append(args, "-serial", "chardev:console", "-serial", "chardev:events", "-mon", "chardev=qmp,mode=control")
	if !s.reboots {
		args = append(args, "-action", "reboot=shutdown")
	}
	if s.watchdog {
		args = append(args, "-device", "i6300esb", "-action", "watchdog=reset")
	}
	if !s.clock.IsZero() {
		args = append(args, "-rtc", "base="+s.clock.UTC().Format("2006-01-02T15:04:05"))
	}
	for i, n := range s.nics {
		args = append(args,
			"-netdev", fmt.Sprintf("stream,id=net%d,server=off,addr.type=unix,addr.path=%s", i, sock.nics[i]),
			"-device", fmt.Sprintf("virtio-net-pci,id=nic%d,netdev=net%d,mac=%s%s", i, i, n.mac, rom))
	}
	if slices.ContainsFunc(s.disks, func(d *Disk) bool { return d.Bus == SCSI }) {
		args = append(args, "-device", "virtio-scsi-pci,id=scsi")
	}
	for _, d := range s.disks {
		args = append(args, "-blockdev", d.blockdev(), "-device", d.device())
	}
	if s.from != "" {
		args = append(args, "-S", "-incoming", "defer")
	}
	return append(args, s.extra...)
}
