package vm

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheCommandLineSaysWhatTheTestAskedFor(t *testing.T) {
	s := spec{name: "host", memory: 512, cpus: 2, kernel: "/k/vmlinuz"}
	for _, o := range []Option{Watchdog(), Clock(time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)), QEMU("-acpitable", "sig=iBFT")} {
		o(&s)
	}
	s.append = []string{"quiet"}
	s.nics = []nic{{mac: "52:54:00:00:00:01"}}
	s.disks = []*Disk{
		{Name: "data0", Path: "/d/data0.img"},
		{Name: "s0", Path: "/d/s0.img", Bus: SCSI, ReadOnly: true, Shared: true, BlockSize: 4096},
	}
	got := s.args(TCG, "/i/initrd", sockets{dir: "/s", nics: []string{"/s/nic0"}})
	want := []string{
		"-name", "host", "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", "pc", "-m", "512", "-smp", "2",
		"-accel", "tcg,thread=multi", "-cpu", "max",
		"-kernel", "/k/vmlinuz", "-append", "console=ttyS0 panic=-1 oops=panic quiet", "-initrd", "/i/initrd",
		"-chardev", "socket,id=console,path=/s/console",
		"-chardev", "socket,id=events,path=/s/events",
		"-chardev", "socket,id=qmp,path=/s/qmp",
		"-serial", "chardev:console", "-serial", "chardev:events", "-mon", "chardev=qmp,mode=control",
		"-action", "reboot=shutdown",
		"-device", "i6300esb", "-action", "watchdog=reset",
		"-rtc", "base=2020-02-03T04:05:06",
		"-netdev", "stream,id=net0,server=off,addr.type=unix,addr.path=/s/nic0",
		"-device", "virtio-net-pci,id=nic0,netdev=net0,mac=52:54:00:00:00:01,romfile=",
		"-device", "virtio-scsi-pci,id=scsi",
		"-blockdev", `{"cache":{"direct":false,"no-flush":true},"discard":"unmap","driver":"raw","file":{"driver":"file","filename":"/d/data0.img"},"node-name":"disk-data0","read-only":false}`,
		"-device", `{"drive":"disk-data0","driver":"virtio-blk-pci","id":"data0","serial":"data0"}`,
		"-blockdev", `{"cache":{"direct":false,"no-flush":true},"discard":"unmap","driver":"raw","file":{"driver":"file","filename":"/d/s0.img","locking":"off"},"node-name":"disk-s0","read-only":true}`,
		"-device", `{"bus":"scsi.0","drive":"disk-s0","driver":"scsi-hd","id":"s0","logical_block_size":4096,"physical_block_size":4096,"serial":"s0","share-rw":true}`,
		"-acpitable", "sig=iBFT",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAMachineThatBootsByItsFirmwareIsGivenNothingToBoot(t *testing.T) {
	s := spec{name: "host", memory: 512, cpus: 2, kernel: "/k/vmlinuz", nics: []nic{{mac: "52:54:00:00:00:01"}}}
	Firmware()(&s)
	got := strings.Join(s.args(TCG, "", sockets{dir: "/s", nics: []string{"/s/nic0"}}), " ")
	for _, never := range []string{"-kernel", "-append", "-initrd", "-blockdev", "romfile="} {
		if strings.Contains(got, never) {
			t.Errorf("%s in %s", never, got)
		}
	}
	for _, want := range []string{"-machine pc,graphics=off", "-boot order=n", "virtio-net-pci,id=nic0,netdev=net0,mac=52:54:00:00:00:01 "} {
		if !strings.Contains(got+" ", want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

func TestOnlyTheKnownEarlyDeathIsRetried(t *testing.T) {
	const (
		int3  = "[    0.412345] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI"
		clock = "[    0.412399] RIP: 0010:sched_clock_cpu+0x5/0xd0"
		begun = "[    1.600000] Run /init as init process"
		panic = "[    0.500000] Kernel panic - not syncing: Fatal exception in interrupt"
	)
	for _, tc := range []struct {
		name    string
		console []string
		want    bool
	}{
		{"the known oops before init", []string{int3, clock, panic}, true},
		{"the same in the other function of a tick", []string{int3, "[    1.181200] RIP: 0010:hrtimer_start_range_ns+0x1cb/0x440", panic}, true},
		{"the same where init's first control groups have the kernel patch itself", []string{begun, int3, "[    1.985856] RIP: 0010:kmem_cache_free+0x105/0x450", panic}, true},
		{"the same wherever else the kernel patches itself", []string{int3, "[    0.9] RIP: 0010:__kmalloc_noprof+0x1f5/0x420", panic}, true},
		{"a double fault where the kernel patches itself", []string{"[    4.912754] Oops: double fault: 0000 [#1] PREEMPT SMP NOPTI", "[    4.913369] RIP: 0010:kmem_cache_alloc_noprof+0x6b/0x2f0", panic}, true},
		{"a double fault after init has started is the guest's own", []string{begun, "[    4.912754] Oops: double fault: 0000 [#1] PREEMPT SMP NOPTI", clock, panic}, false},
		{"an int3 in a module", []string{int3, "[    0.412399] RIP: 0010:crypt_ctr+0x5/0xd0 [dm_crypt]", panic}, false},
		{"another oops in the same function", []string{"[    0.4] Oops: general protection fault", clock, panic}, false},
		{"a panic without an oops", []string{panic}, false},
		{"nothing at all", nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := diedOfEmulation(tc.console); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestEventLinesAreReadStrictly(t *testing.T) {
	input := `{"event":"up"}
not json
{"name":"no event"}
{"event":"test","exit":1}
{"event":"torn`
	feed := newFeed[Event]()
	var log strings.Builder
	var garbage []string
	readEvents(strings.NewReader(input), &log, time.Now(), feed, func(line string, err error) { garbage = append(garbage, strings.TrimSpace(line)) })
	var names []string
	for _, e := range feed.all() {
		names = append(names, e.Name)
	}
	if diff := cmp.Diff([]string{"up", "test"}, names); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"not json", `{"name":"no event"}`}, garbage); diff != "" {
		t.Errorf("garbage (-want +got):\n%s", diff)
	}
	if log.String() != input {
		t.Errorf("the log holds %q", log.String())
	}
}

// The events of a guest are bytes that a broken guest may have written.
func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(`{"event":"up"}`))
	f.Add([]byte(`{"event":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := parseEvent(line)
		if err == nil && e.Name == "" {
			t.Errorf("%q gave an event without a name", line)
		}
		e.Field("event")
	})
}

// Frames are what a guest's network stack made of anything.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\x52\x54\x00\x00\x00\x01\x08\x00\x45\x00\x00\x28\x00\x00\x40\x00\x40\x06\x00\x00\xc0\x00\x02\x01\xc0\x00\x02\x02\x30\x39\x16\x24"))
	f.Add([]byte("\x33\x33\x00\x00\x00\x01\x52\x54\x00\x00\x00\x01\x86\xdd"))
	f.Fuzz(func(t *testing.T, data []byte) {
		frame := Frame{Data: data}
		if p, ok := frame.ip(); ok && !ToAddr(p.dst)(frame) {
			t.Errorf("a frame to %v is not matched by its own address", p.dst)
		}
	})
}
