package step

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"initd/boot/plan"
	"initd/hw/block"
	"initd/hw/block/media"
	"initd/hw/sysfs"
	"initd/hw/uevent"
)

// disks is a folder with block devices as sysfs shows them. No event tells of what is put there.
type disks struct {
	t    *testing.T
	root string
}

func (d disks) put(file, text string) {
	d.t.Helper()
	file = filepath.Join(d.root, file)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text+"\n"), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

func (d disks) link(file, to string) {
	d.t.Helper()
	if err := os.MkdirAll(filepath.Join(d.root, filepath.Dir(file)), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Symlink(to, filepath.Join(d.root, file)); err != nil {
		d.t.Fatal(err)
	}
}

func (d disks) device(path, numbers string) {
	d.t.Helper()
	d.put("sys/devices/"+path+"/uevent", "MAJOR="+strings.ReplaceAll(numbers, ":", "\nMINOR=")+"\nDEVTYPE=disk\nDEVNAME="+filepath.Base(path)+"\nDISKSEQ="+numbers[len(numbers)-1:])
	d.put("sys/devices/"+path+"/size", "45056")
	d.link("sys/devices/"+path+"/subsystem", strings.Repeat("../", strings.Count(path, "/")+2)+"class/block")
	d.link("sys/class/block/"+filepath.Base(path), "../../devices/"+path)
}

const leg, above = "platform/host5/session3/target5:0:0/5:0:0:0/block/sdn", "virtual/block/dm-4"

// mapped puts a multipath map above the leg.
func (d disks) mapped() { d.above("vault-0", "mpath-36001405") }

// above puts a device of the device mapper above the leg.
func (d disks) above(name, uuid string) {
	d.t.Helper()
	d.put("sys/devices/"+above+"/dm/name", name)
	d.put("sys/devices/"+above+"/dm/uuid", uuid)
	d.put("sys/devices/"+above+"/dm/suspended", "0")
	d.link("sys/devices/"+above+"/slaves/sdn", "../../../../"+leg)
	d.link("sys/devices/"+leg+"/holders/dm-4", strings.Repeat("../", strings.Count(leg, "/")+1)+above)
	d.device(above, "253:4")
}

// sameContent answers for media that all hold one volume.
type sameContent struct{ uuid string }

func (sameContent) Free(context.Context, string) error { return nil }

func (s sameContent) Run(_ context.Context, c Call) (Reply, error) {
	content, err := json.Marshal(media.Content{Signature: &media.Signature{Type: "crypto_LUKS", Usage: "crypto", UUID: s.uuid}})
	if err != nil {
		return Reply{}, err
	}
	for i := range c.Params.([]block.Request) {
		c.Progress(ChildProgress{Index: i, Done: true, Result: content})
	}
	return Reply{}, nil
}

func onALeg(t *testing.T) (*BlockWatcher, disks) {
	t.Helper()
	d := disks{t, t.TempDir()}
	d.device(leg, "8:208")
	sys, err := sysfs.Open(d.root)
	if err != nil {
		t.Fatal(err)
	}
	return NewBlockWatcher(sys, uevent.Kernel, sameContent{"3f0a5a52"}), d
}

// A volume's name means one leg, as long as that is all there is; a map is made above it, of which no event has told yet. Whoever waits until things
// have settled before he is done leaves no moment in which the name still means the leg.
func TestWhatWasMadeIsToldBeforeItsMakerIsDone(t *testing.T) {
	w, d := onALeg(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const volume = plan.Resource("block/uuid/3f0a5a52")
	facts := make(chan plan.Fact, 100)
	interests := make(chan []plan.Resource, 1)
	interests <- []plan.Resource{volume}
	ended := make(chan error, 1)
	go func() {
		ended <- w.Watch(ctx, interests, func(list []plan.Fact) {
			for _, f := range list {
				facts <- f
			}
		})
	}()
	next := func() plan.Fact {
		select {
		case f := <-facts:
			return f
		case <-ctx.Done():
			t.Fatal("no fact came")
			return plan.Fact{}
		}
	}
	for f := next(); ; f = next() {
		if f.Present && f.Attrs["dev"] == "/dev/sdn" {
			break
		}
	}
	d.mapped()
	if err := w.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case f := <-facts:
		if f.Present && f.Attrs["dev"] != "/dev/dm-4" {
			t.Errorf("the volume is %+v", f)
		}
	default:
		t.Error("nothing was told when things had settled")
	}
	for dev, err := w.Device(volume); dev != "/dev/dm-4"; dev, err = w.Device(volume) {
		if err == nil {
			t.Fatalf("the volume is on %s", dev)
		}
		next()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Who is about to open a device looks once more, whatever events have told.
func TestALegIsNotGivenOutOnceSomethingStandsOnIt(t *testing.T) {
	w, d := onALeg(t)
	const volume = plan.Resource("block/uuid/3f0a5a52")
	if dev, err := w.FindNow(t.Context(), volume); dev != "/dev/sdn" || err != nil {
		t.Fatalf("alone: %q, %v", dev, err)
	}
	d.mapped()
	if dev, err := w.Device(volume); err == nil || !strings.Contains(err.Error(), "/dev/sdn is below /dev/dm-4") {
		t.Errorf("below a map: %q, %v", dev, err)
	}
}

// An event shows a device as it is now, with what came to stand on it since, whose own event is still to come.
func TestAVolumeIsNotLostByItsOwnMapping(t *testing.T) {
	for uuid, want := range map[string]string{"CRYPT-LUKS2-3f0a5a52-vault": "", "mpath-36001405": "uuid/3f0a5a52: /dev/sdn is below /dev/dm-4 (vault)"} {
		w, d := onALeg(t)
		const volume = plan.Resource("block/uuid/3f0a5a52")
		if dev, err := w.FindNow(t.Context(), volume); dev != "/dev/sdn" || err != nil {
			t.Fatalf("alone: %q, %v", dev, err)
		}
		d.above("vault", uuid)
		if err := w.event(uevent.Event{Action: uevent.Change, Subsystem: "block", Path: "/devices/" + leg}); err != nil {
			t.Fatal(err)
		}
		if f := w.fact(volume); f.Present != (want == "") || f.Reason != want {
			t.Errorf("below %s: %+v", uuid, f)
		}
	}
}

func TestSettlingEndsWithItsContext(t *testing.T) {
	w, _ := onALeg(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Settle(ctx); err == nil {
		t.Error("nobody watches, and it has settled")
	}
}

// Whoever waits for that hears at once that the devices cannot be listed, and not when his time is over.
func TestWhatCannotBeListedIsNotWaitedFor(t *testing.T) {
	w, d := onALeg(t)
	facts, ended := make(chan struct{}, 1), make(chan error, 1)
	interests := make(chan []plan.Resource, 1)
	interests <- []plan.Resource{"block/uuid/3f0a5a52"}
	go func() {
		ended <- w.Watch(t.Context(), interests, func([]plan.Fact) {
			select {
			case facts <- struct{}{}:
			default:
			}
		})
	}()
	<-facts // it has looked, and watches
	folder := filepath.Join(d.root, "sys/class/block")
	if err := os.Rename(folder, folder+"-gone"); err != nil {
		t.Fatal(err)
	}
	d.put("sys/class/block", "no folder")
	err := w.Settle(t.Context())
	if err == nil || !strings.Contains(err.Error(), "list block devices") {
		t.Errorf("settled: %v", err)
	}
	if watch := <-ended; watch == nil || watch.Error() != err.Error() {
		t.Errorf("watch: %v; settled: %v", watch, err)
	}
}
