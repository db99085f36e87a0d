package bench

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"initd/qemu-tests/guest/plan"
	"initd/qemu-tests/vm"
)

// volumes is how many there are of each sort.
const volumes = 16

// benchGuard bounds all rounds of one sort under emulation.
const benchGuard = 30 * time.Minute

// One machine of 1 GiB with 16 volumes whose keys are random (pbkdf2 of 1,000 iterations) and 16 with argon2id of 64 MiB.
// initd's children open all 16 of a sort at once, from the start of the first process to the last mapping; cryptsetup is
// started 16 times in parallel for the first sort. For the second that would take more memory than there is: it computes
// the hashes alone (--test-passphrase), two at a time, as there are processors.
//
// Under emulation the last ratio tells of the emulator: it calls a helper for each PSHUFB of x/crypto's SSE4.1 code, which
// doubles the time (2.73 s of user time for a hash where the same library without SSE4.1 takes 1.32 s and cryptsetup 1.38 s).
// BenchmarkHash compares the two on the processor itself.
func BenchmarkLUKS(b *testing.B) {
	var parts [2]vm.GPT
	image := vm.NewImage(b).GoProgram("/init", "./qemu-tests/guest").GoProgram("/usr/bin/opener", "./qemu-tests/guest/opener").
		File("/usr/bin/initd", vm.Shipped(b, "initd"), 0o755).Program("cryptsetup").
		Modules("virtio_blk", "dm_crypt", "xts", "ecb")
	kinds := []vm.LUKS{{KDF: "pbkdf2"}, {KDF: "argon2id", MemoryKiB: 64 << 10}}
	for n, l := range kinds {
		for i := range volumes {
			key := make([]byte, 32)
			if _, err := rand.Read(key); err != nil {
				b.Fatal(err)
			}
			l.Keys = [][]byte{key}
			parts[n] = append(parts[n], vm.Partition{Label: fmt.Sprintf("%s-%d", l.KDF, i), Size: 18 * vm.MiB, Content: l})
			image.Bytes(fmt.Sprintf("/keys/%s/%d", l.KDF, i+1), key, 0o600)
		}
	}
	run := func(kdf, prefix string, rounds int, more ...string) plan.Test {
		return plan.Test{Package: kdf, Program: "/usr/bin/opener", Dir: "/", Args: append([]string{
			"-prefix", prefix, "-keys", "/keys/" + kdf, "-count", strconv.Itoa(volumes), "-rounds", strconv.Itoa(rounds)}, more...)}
	}
	image.JSON(plan.Path, plan.Plan{Tests: []plan.Test{
		run("pbkdf2", "/dev/vda", 5, "-width", strconv.Itoa(volumes)),
		run("argon2id", "/dev/vdb", 3, "-width", "2", "-hash"),
	}})
	size := int64(volumes*18+8) * vm.MiB
	machine := vm.New(b, vm.Name("bench"), vm.Memory(1024), vm.CPUs(2)).Initramfs(image.Write("bench")).
		Disk(vm.NewDisk(b, "pbkdf2", size, parts[0]), vm.NewDisk(b, "argon2id", size, parts[1])).Start()
	machine.WaitEvent("all rounds are over", vm.Is("end"), benchGuard)
	random, costly := measured(b, machine, "pbkdf2"), measured(b, machine, "argon2id")
	show(b, "16 LUKS volumes at once, in a VM of 1 GiB; theirs: 16 cryptsetup in parallel, and the 16 hashes alone by cryptsetup",
		faster("pbkdf2 of 1,000 iterations, opened", random.ours, random.theirs, 3),
		noSlower("argon2id of 64 MiB, opened", costly.ours, costly.theirs, 1.3))
}

// sides are the rounds of both.
type sides struct{ ours, theirs times }

// measured is what the opener said of one sort.
func measured(b *testing.B, machine *vm.VM, kdf string) sides {
	b.Helper()
	var s sides
	for _, e := range machine.Events() {
		switch {
		case vm.Is("test", "package", kdf)(e) && e.Field("exit") != "0":
			b.Errorf("%s: the opener ended with status %s", kdf, e.Field("exit"))
		case vm.Is("output", "package", kdf)(e):
			var who string
			var took time.Duration
			if n, _ := fmt.Sscanf(e.Field("line"), "%s took %d ns", &who, &took); n != 2 {
				b.Log(e.Field("line"))
			} else if who == "ours" {
				s.ours = append(s.ours, took)
			} else {
				s.theirs = append(s.theirs, took)
			}
		}
	}
	if len(s.ours) == 0 || len(s.theirs) == 0 {
		b.Fatalf("%s: the opener measured nothing", kdf)
	}
	return s
}

// One hash of argon2id of 64 MiB on this machine's own processor, as each program does it: `initd luks verify` against
// `cryptsetup open --test-passphrase`, by the processor time that each process took, its start included.
func BenchmarkHash(b *testing.B) {
	key := []byte("a key of the benchmark")
	file := filepath.Join(b.TempDir(), "key")
	if err := os.WriteFile(file, key, 0o600); err != nil {
		b.Fatal(err)
	}
	disk := vm.NewDisk(b, "hash", 18*vm.MiB, vm.LUKS{KDF: "argon2id", MemoryKiB: 64 << 10, Keys: [][]byte{key}})
	took := func(name string, args ...string) time.Duration {
		cmd := exec.Command(name, args...)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%s: %v: %s", name, err, out)
		}
		return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	var s sides
	for range 9 {
		s.ours = append(s.ours, took(vm.Shipped(b, "initd"), "luks", "verify", "--device", disk.Path, "--key-file", file))
		s.theirs = append(s.theirs, took("cryptsetup", "open", "--test-passphrase", "--key-file", file, disk.Path))
	}
	show(b, "One slot on this machine's own processor, processor time, start of the process included; theirs: cryptsetup --test-passphrase",
		noSlower("argon2id of 64 MiB", s.ours, s.theirs, 1.3))
}
