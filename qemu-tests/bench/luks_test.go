package bench

import (
	"crypto/rand"
	"fmt"
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
	show(b,
		measured(b, machine, "pbkdf2", line{name: "16 LUKS volumes with random keys", atLeast: 3}),
		measured(b, machine, "argon2id", line{name: "16 LUKS volumes with argon2id of 64 MiB", atMost: 1.3}))
}

// measured fills a line with what the opener said.
func measured(b *testing.B, machine *vm.VM, kdf string, l line) line {
	b.Helper()
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
				l.ours = append(l.ours, took)
			} else {
				l.theirs = append(l.theirs, took)
			}
		}
	}
	return l
}
