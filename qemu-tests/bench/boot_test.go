package bench

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"initd/qemu-tests/vm"
)

const (
	// bootRounds is how often each machine boots.
	bootRounds = 3
	// faultLimit is how long a boot with a fault is watched.
	faultLimit = time.Minute
	// site is how many volumes the machine has; with a fault there is one more.
	site = 4
)

// The machine of all: 2 processors, 2 GiB, a root on ext4 whose /sbin/init only writes a marker into the kernel's log, and
// four LUKS2 volumes that are open and mounted before that; keys are files in the initramfs. What is measured is the kernel's
// time from 'Run /init' to the marker. The makers of the initramfs: initd-image (which hands over to that root),
// initramfs-tools with cryptroot, dracut without systemd, and the floor, a small program that runs cryptsetup four times at
// once. All boot the same kernel from the same disks, in turn, a round after the other.
//
// booster is no package of Debian 12 and is not measured here.
func BenchmarkBoot(b *testing.B) {
	m := newMachine(b, "pbkdf2", fourRandom()...)
	r := m.rounds(b, makers())
	show(b, "User space of a boot with four LUKS volumes, keys by file, pbkdf2 of 1,000 iterations",
		noSlower("the floor: a program that runs cryptsetup four times at once", r["ours"], r["floor"], 1.4),
		faster("initramfs-tools, cryptroot", r["ours"], r["initramfs-tools"], 4),
		faster("dracut, crypt, no systemd", r["ours"], r["dracut"], 7))
}

// The same with two of the four by argon2id: hashing is most of it, for all.
func BenchmarkBootArgon2(b *testing.B) {
	kinds := fourRandom()
	for i := range 2 {
		kinds[i] = vm.LUKS{KDF: "argon2id", MemoryKiB: 256 << 10, Lanes: 2}
	}
	m := newMachine(b, "argon2id", kinds...)
	r := m.rounds(b, makers())
	show(b, "The same, two of the four with argon2id (256 MiB, 4 passes, 2 lanes)",
		compared("the floor", r["ours"], r["floor"]),
		faster("initramfs-tools, cryptroot", r["ours"], r["initramfs-tools"], 1.5),
		faster("dracut, crypt, no systemd", r["ours"], r["dracut"], 1.5))
}

// The same with one more volume, whose device is missing or whose key is another one's. What counts is when the other four are
// mounted (the kernel says so), and whether a line names the fifth. Who waits for the missing one before the root is
// entered is seen by the marker.
func BenchmarkBootFaults(b *testing.B) {
	newMachine(b, "faults", fourRandom()...).faults(b)
}

func fourRandom() []vm.LUKS {
	return []vm.LUKS{{KDF: "pbkdf2"}, {KDF: "pbkdf2"}, {KDF: "pbkdf2"}, {KDF: "pbkdf2"}}
}

// maker makes the initramfs of a machine, for volumes d1 to dN, and says what the kernel is told.
type maker struct {
	name string
	make func(b *testing.B, m *machine, volumes []volume) (images []string, args []string)
}

func makers() []maker {
	return []maker{{"ours", ours}, {"initramfs-tools", initramfsTools}, {"dracut", dracut}, {"floor", floor}}
}

// volume is one of the machine's.
type volume struct {
	name, uuid string
	key        []byte
}

func newVolume(b *testing.B, n int) volume {
	b.Helper()
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		b.Fatal(err)
	}
	return volume{name: fmt.Sprintf("d%d", n), uuid: fmt.Sprintf("6d6b1c5e-7c0f-4c38-9d31-00000000000%d", n), key: key}
}

// rootUUID is the UUID of the root's file system.
const rootUUID = "6d6b1c5e-7c0f-4c38-9d31-0000000000ff"

// machine is the disks, and what is known of them.
type machine struct {
	name    string
	volumes []volume
	disks   []*vm.Disk
}

func newMachine(b *testing.B, name string, kinds ...vm.LUKS) *machine {
	b.Helper()
	m := &machine{name: name, disks: []*vm.Disk{rootDisk(b)}}
	for i, l := range kinds {
		m.add(b, i+1, l)
	}
	return m
}

func (m *machine) add(b *testing.B, n int, l vm.LUKS) {
	b.Helper()
	v := newVolume(b, n)
	l.Keys, l.UUID, l.Content = [][]byte{v.key}, v.uuid, vm.Ext4{Label: v.name}
	m.volumes = append(m.volumes, v)
	m.disks = append(m.disks, vm.NewDisk(b, v.name, 48*vm.MiB, l))
}

// rounds boots each maker's image in turn, and gives what each took.
func (m *machine) rounds(b *testing.B, makers []maker) map[string]times {
	b.Helper()
	took := map[string]times{}
	for name, list := range m.booted(b, makers) {
		for _, o := range list {
			took[name] = append(took[name], o.marker)
		}
	}
	return took
}

func (m *machine) booted(b *testing.B, makers []maker) map[string][]bootTimes {
	b.Helper()
	type prepared struct {
		maker
		images, args []string
	}
	var all []prepared
	for _, mk := range makers {
		images, args := mk.make(b, m, m.volumes)
		all = append(all, prepared{mk, images, args})
	}
	list := map[string][]bootTimes{}
	for round := range bootRounds {
		for _, p := range all {
			o := m.boot(b, fmt.Sprintf("%s-%s-%d", m.name, p.name, round+1), p.images, p.args, m.disks, benchGuard)
			if o.marker == 0 {
				b.Fatalf("%s: no marker, or not all are mounted; the console closed with:\n%s", p.name, tail(o.lines))
			}
			list[p.name] = append(list[p.name], o)
		}
	}
	return list
}

var (
	runInit = regexp.MustCompile(`^\[ *(\d+\.\d+)\] Run /init as init process`)
	volume4 = regexp.MustCompile(`\[ *(\d+\.\d+)\] EXT4-fs \(dm-\d+\): mounted filesystem`)
	marker  = regexp.MustCompile(`^\[ *(\d+\.\d+)\] bench: marker, (\d+) mounted`)
)

// bootTimes is one boot; its times begin with 'Run /init'.
type bootTimes struct {
	marker time.Duration // the root's init: 0 without it in time, or with too few volumes
	four   time.Duration // four volumes are mounted; 0 with fewer
	lines  []string      // what the console showed from /init on
}

func (m *machine) boot(b *testing.B, name string, images, args []string, disks []*vm.Disk, within time.Duration) bootTimes {
	b.Helper()
	return userSpace(vm.New(b, vm.Name(name), vm.Memory(2048), vm.CPUs(2)).Initramfs(images...).Disk(disks...).Append(args...), within)
}

func userSpace(v *vm.VM, within time.Duration) bootTimes {
	v.Start()
	if v.Console().Await(`bench: marker, .*`, within) != nil {
		v.Exited(vm.Guard)
	}
	v.Kill()
	var o bootTimes
	var began float64
	since := func(stamp string) time.Duration {
		at, _ := strconv.ParseFloat(stamp, 64)
		return time.Duration((at - began) * float64(time.Second))
	}
	mounted := 0
	for _, line := range v.Console().Lines() {
		if f := runInit.FindStringSubmatch(line); f != nil {
			began, _ = strconv.ParseFloat(f[1], 64)
		}
		if began == 0 {
			continue
		}
		o.lines = append(o.lines, line)
		if f := volume4.FindStringSubmatch(line); f != nil {
			if mounted++; mounted == site {
				o.four = since(f[1])
			}
		}
		if f := marker.FindStringSubmatch(line); f != nil {
			if n, _ := strconv.Atoi(f[2]); n >= site {
				o.marker = since(f[1])
			}
		}
	}
	return o
}

func tail(lines []string) string { return strings.Join(lines[max(0, len(lines)-40):], "\n") }

// faults boots with a fifth volume, whose disk is missing or whose key is another one's.
func (m *machine) faults(b *testing.B) {
	b.Helper()
	makers := makers()[:3]
	well := m.booted(b, makers)
	other := &machine{name: m.name, volumes: slices.Clone(m.volumes), disks: slices.Clone(m.disks)}
	other.add(b, site+1, vm.LUKS{KDF: "pbkdf2"})
	wrong := slices.Clone(other.volumes)
	wrong[site].key = newVolume(b, 0).key
	var rows []row
	for _, fault := range []struct {
		name    string
		volumes []volume
		disks   []*vm.Disk
	}{{"device missing", other.volumes, m.disks}, {"wrong key", wrong, other.disks}} {
		for _, mk := range makers {
			images, args := mk.make(b, other, fault.volumes)
			mine := mk.name == "ours"
			rounds := 1
			if mine {
				rounds = bootRounds
			}
			var list []bootTimes
			for round := 0; round < rounds && (round == 0 || list[0].marker != 0); round++ { // a minute of waiting need not be seen thrice
				list = append(list, m.boot(b, fmt.Sprintf("%s-%s-%d", named(fault.name), named(mk.name), round+1), images, args, fault.disks, faultLimit))
			}
			said := firstLine(list[0].lines, other.volumes[site])
			r := late(fault.name+": "+mk.name+", the other four", list, well[mk.name], func(o bootTimes) time.Duration { return o.four })
			if mine {
				r.target, r.distance = "no delay, and named", "named"
				if said == "" || r.ratio == "" {
					r.missed, r.distance = true, "MISSED"
				}
			}
			entered := late(fault.name+": "+mk.name+", the root", list, well[mk.name], func(o bootTimes) time.Duration { return o.marker })
			if mine {
				entered.target = "2 s after the last device"
				entered.missed = entered.ratio == ""
			}
			rows = append(rows, r, entered)
			b.Logf("%s, %s: the first line that names it: %q", fault.name, mk.name, said)
		}
	}
	show(b, "One more volume with a fault; 'theirs': the same maker when all is well, 'ratio': how much later", rows...)
}

func named(s string) string { return strings.NewReplacer(" ", "-", ",", "", ":", "").Replace(s) }

// late is the row for how much later something was than when all is well.
func late(name string, fault, well []bootTimes, when func(bootTimes) time.Duration) row {
	all := func(list []bootTimes) (t times, reached bool) {
		for _, o := range list {
			t = append(t, when(o))
		}
		return t, !slices.Contains(t, 0)
	}
	before, _ := all(well)
	r := row{name: name, ours: "not within " + faultLimit.String(), theirs: before.String()}
	if now, reached := all(fault); reached {
		r.ours, r.ratio = now.String(), fmt.Sprintf("%+.2f s", (now.median()-before.median()).Seconds())
	}
	return r
}

// firstLine is the first on the console that names the volume, by its name or its UUID, and does not say that something of it is done.
func firstLine(lines []string, v volume) string {
	name := regexp.MustCompile(`\b` + v.name + `\b|` + v.uuid)
	for _, line := range lines {
		if name.MatchString(line) && !strings.Contains(line, "Kernel command line") && !strings.Contains(line, " done in ") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
