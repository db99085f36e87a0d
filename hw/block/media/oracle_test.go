package media

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tool is a program the tests need; without it they fail and say where it comes from.
func tool(t *testing.T, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: install the Debian package %s", name, debian)
	}
	return path
}

func run(t *testing.T, input string, command ...string) string {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

func sparse(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "medium")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

// blkid is the oracle: what libblkid itself says of the file. Nothing found is exit status 2, ambivalence is 8.
func blkid(t *testing.T, path string) (values map[string]string, ambivalent bool) {
	t.Helper()
	out, err := exec.Command(tool(t, "blkid", "util-linux"), "-p", "-o", "udev", path).Output()
	if exit, ok := err.(*exec.ExitError); ok && exit.ExitCode() == 8 {
		return nil, true
	} else if err != nil && (!ok || exit.ExitCode() != 2) {
		t.Fatal(err)
	}
	values = map[string]string{}
	for line := range strings.SplitSeq(string(out), "\n") {
		key, value, _ := strings.Cut(line, "=")
		if strings.HasSuffix(key, "_ENC") || strings.HasSuffix(key, "_VERSION") {
			if value, err = strconv.Unquote(`"` + value + `"`); err != nil {
				t.Fatalf("blkid says %s", line)
			}
		}
		values[key] = value
	}
	return values, false
}

// same compares what Probe says with what blkid says of the same bytes.
func same(t *testing.T, path string) Content {
	t.Helper()
	got, err := ProbeDevice(path)
	if err != nil {
		t.Fatal(err)
	}
	values, ambivalent := blkid(t, path)
	if ambivalent != (len(got.Ambivalent) > 0) {
		t.Errorf("blkid says ambivalent: %v; got %v", ambivalent, got.Ambivalent)
	}
	if ambivalent {
		return got
	}
	want := Signature{
		Type: values["ID_FS_TYPE"], Usage: Usage(values["ID_FS_USAGE"]), Version: values["ID_FS_VERSION"],
		UUID: values["ID_FS_UUID_ENC"], Label: values["ID_FS_LABEL_ENC"],
	}
	signature := Signature{}
	if got.Signature != nil {
		signature = *got.Signature
	}
	if diff := cmp.Diff(want, signature); diff != "" {
		t.Errorf("signature (-blkid +got):\n%s", diff)
	}
	table := Table{}
	if got.Table != nil {
		table = *got.Table
	}
	kind, id := values["ID_PART_TABLE_TYPE"], values["ID_PART_TABLE_UUID"]
	if signature.Type == "exfat" {
		kind = "" // libblkid takes the boot sector of an exFAT for a dos table without partitions; we do not
	}
	if table.Type != kind || table.UUID != id {
		t.Errorf("table %q %q, blkid says %q %q", table.Type, table.UUID, kind, id)
	}
	return got
}

const mib = 1 << 20

func TestWhatTheToolsWriteIsReadAsBlkidReadsIt(t *testing.T) {
	for _, row := range []struct {
		name    string
		size    int64
		debian  string
		input   string
		command []string
		want    string // the type, so that no row passes because neither side found anything
	}{
		{"ext2", 8 * mib, "e2fsprogs", "", []string{"mkfs.ext2", "-q", "-L", "two", "PATH"}, "ext2"},
		{"ext3", 16 * mib, "e2fsprogs", "", []string{"mkfs.ext3", "-q", "PATH"}, "ext3"},
		{"ext4 with a label that has blanks", 16 * mib, "e2fsprogs", "", []string{"mkfs.ext4", "-q", "-L", "a b  c/d", "PATH"}, "ext4"},
		{"ext4 without metadata checksums", 16 * mib, "e2fsprogs", "", []string{"mkfs.ext4", "-q", "-O", "^metadata_csum", "PATH"}, "ext4"},
		{"ext4 without a journal", 16 * mib, "e2fsprogs", "", []string{"mkfs.ext4", "-q", "-O", "^has_journal", "PATH"}, "ext4"},
		{"an external journal", 16 * mib, "e2fsprogs", "", []string{"mke2fs", "-q", "-O", "journal_dev", "-b", "4096", "PATH"}, "jbd"},
		{"xfs", 400 * mib, "xfsprogs", "", []string{"mkfs.xfs", "-q", "-L", "data é", "PATH"}, "xfs"},
		{"xfs with 4 KiB sectors", 400 * mib, "xfsprogs", "", []string{"mkfs.xfs", "-q", "-s", "size=4096", "PATH"}, "xfs"},
		{"xfs of version 4", 400 * mib, "xfsprogs", "", []string{"mkfs.xfs", "-q", "-m", "crc=0,finobt=0,reflink=0,bigtime=0,inobtcount=0", "PATH"}, "xfs"},
		{"btrfs", 200 * mib, "btrfs-progs", "", []string{"mkfs.btrfs", "-q", "-L", "pool", "PATH"}, "btrfs"},
		{"btrfs with another checksum", 200 * mib, "btrfs-progs", "", []string{"mkfs.btrfs", "-q", "--csum", "xxhash", "PATH"}, "btrfs"},
		{"FAT12", 2 * mib, "dosfstools", "", []string{"mkfs.vfat", "-F", "12", "-n", "FLOPPY", "PATH"}, "vfat"},
		{"FAT16", 32 * mib, "dosfstools", "", []string{"mkfs.vfat", "-F", "16", "-n", "ESP 1", "PATH"}, "vfat"},
		{"FAT32", 64 * mib, "dosfstools", "", []string{"mkfs.vfat", "-F", "32", "-n", "EFI SYSTEM", "PATH"}, "vfat"},
		{"FAT32 without a label", 64 * mib, "dosfstools", "", []string{"mkfs.vfat", "-F", "32", "PATH"}, "vfat"},
		{"exFAT", 8 * mib, "exfatprogs", "", []string{"mkfs.exfat", "PATH"}, "exfat"},
		{"swap", 4 * mib, "util-linux", "", []string{"mkswap", "-q", "-L", "swap 1", "PATH"}, "swap"},
		{"swap of a machine with 64 KiB pages", 4 * mib, "util-linux", "", []string{"mkswap", "-q", "-p", "65536", "PATH"}, "swap"},
		{"LUKS1", 20 * mib, "cryptsetup-bin", "x", []string{"cryptsetup", "luksFormat", "-q", "--type", "luks1",
			"--pbkdf-force-iterations", "1000", "PATH", "-"}, "crypto_LUKS"},
		{"LUKS2 with a label", 20 * mib, "cryptsetup-bin", "x", []string{"cryptsetup", "luksFormat", "-q", "--type", "luks2", "--label", "tank 0",
			"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "PATH", "-"}, "crypto_LUKS"},
		{"nothing", 4 * mib, "coreutils", "", []string{"true"}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := sparse(t, row.size)
			command := append([]string{tool(t, row.command[0], row.debian)}, row.command[1:]...)
			for i := range command {
				if command[i] == "PATH" {
					command[i] = path
				}
			}
			run(t, row.input, command...)
			got := same(t, path)
			kind := ""
			if got.Signature != nil {
				kind = got.Signature.Type
			}
			if kind != row.want {
				t.Errorf("type %q, want %q", kind, row.want)
			}
		})
	}
}

func TestAnISOImageKeepsItsJolietLabel(t *testing.T) {
	xorriso := tool(t, "xorriso", "xorriso")
	for _, row := range []struct{ name, label string }{
		{"a short label", "DISC"}, {"a long label", "a_label_that_is_cut_at_16_chars"}, {"with blanks", "Debian 12 n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "iso")
			if err := os.Mkdir(filepath.Join(dir, "tree"), 0o755); err != nil {
				t.Fatal(err)
			}
			run(t, "", xorriso, "-as", "mkisofs", "-quiet", "-J", "-V", row.label, "-o", path, filepath.Join(dir, "tree"))
			if got := same(t, path); got.Signature == nil || got.Signature.Type != "iso9660" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestPartitionTablesAreReadAsTheToolsReadThem(t *testing.T) {
	partx := tool(t, "partx", "util-linux")
	sfdisk := tool(t, "sfdisk", "fdisk")
	for _, row := range []struct {
		name, script string
		want         int
	}{
		{"gpt with odd labels", "label: gpt\nsize=2MiB, name=\"data 1\"\nsize=1MiB, name=\"a/b é\"\nsize=1MiB\n", 3},
		{"gpt with a gap in the numbers", "label: gpt\n2 : size=2MiB, name=two\n7 : size=1MiB, name=seven, type=linux\n", 2},
		{"dos", "label: dos\nlabel-id: 0x1234abcd\nsize=2MiB, type=83\nsize=1MiB, type=82\n", 2},
		{"dos with logical partitions", "label: dos\nsize=2MiB, type=83\nsize=20MiB, type=5\nsize=2MiB, type=83\nsize=3MiB, type=8e\nsize=1MiB\n", 5},
		{"an empty gpt", "label: gpt\n", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := sparse(t, 40*mib)
			run(t, row.script, sfdisk, "-q", path)
			content := same(t, path)
			if content.Table == nil {
				t.Fatal("no table")
			}
			compareWithPartx(t, partx, path, content.Table)
			if len(content.Table.Partitions) != row.want {
				t.Errorf("%d partitions, want %d", len(content.Table.Partitions), row.want)
			}
		})
	}
}

// compareWithPartx holds a table against partx, which is libblkid's own partition reader.
func compareWithPartx(t *testing.T, partx, path string, table *Table) {
	t.Helper()
	if len(table.Partitions) == 0 {
		return
	}
	var want []Partition
	for line := range strings.SplitSeq(strings.TrimSpace(run(t, "", partx, "-b", "-r", "-g", "-o", "NR,START,SIZE,UUID,NAME,TYPE", path)), "\n") {
		field := strings.Split(line, " ")
		number, err1 := strconv.Atoi(field[0])
		start, err2 := strconv.ParseUint(field[1], 10, 64)
		size, err3 := strconv.ParseUint(field[2], 10, 64)
		if err1 != nil || err2 != nil || err3 != nil {
			t.Fatalf("partx says %q", line)
		}
		name, err := strconv.Unquote(`"` + field[4] + `"`) // blanks are \x20
		if err != nil {
			t.Fatalf("partx says %q", line)
		}
		want = append(want, Partition{Number: number, Start: start * 512, Size: size, UUID: field[3], Label: name, Type: field[5]})
	}
	if diff := cmp.Diff(want, table.Partitions); diff != "" {
		t.Errorf("partitions (-partx +got):\n%s", diff)
	}
}

func TestADamagedPrimaryGPTIsReadFromItsBackup(t *testing.T) {
	for _, row := range []struct {
		name   string
		at     int64
		damage string
	}{
		{"the header", 512 + 56, "primary header: bad checksum"},
		{"the signature", 512, "primary header: no GPT header"},
		{"the entries", 1024 + 60, "primary header: bad checksum of the entries"},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := sparse(t, 40*mib)
			run(t, "label: gpt\nsize=2MiB, name=one\n", tool(t, "sfdisk", "fdisk"), "-q", path)
			whole := same(t, path)
			smash(t, path, row.at)
			got := same(t, path)
			if got.Table == nil || !strings.HasPrefix(got.Table.Damage, row.damage) {
				t.Fatalf("got %+v", got.Table)
			}
			if diff := cmp.Diff(whole.Table.Partitions, got.Table.Partitions); diff != "" {
				t.Error(diff)
			}
			smash(t, path, 40*mib-512+56)
			if got := same(t, path); got.Table != nil && got.Table.Type == "gpt" {
				t.Errorf("both headers are damaged, got %+v", got.Table)
			}
		})
	}
}

func smash(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0xa5}, at); err != nil {
		t.Fatal(err)
	}
}

func TestTwoSignaturesAreAmbivalentUnlessOneHidesTheOther(t *testing.T) {
	path := sparse(t, 20*mib)
	run(t, "", tool(t, "mkfs.ext4", "e2fsprogs"), "-q", path)
	run(t, "", tool(t, "mkfs.vfat", "dosfstools"), "-F", "16", "-s", "8", path)
	ext4 := sparse(t, 20*mib)
	run(t, "", tool(t, "mkfs.ext4", "e2fsprogs"), "-q", ext4)
	copyRange(t, ext4, path, 1024, 1024) // the FAT was zeroed over it; put the old superblock back
	got := same(t, path)
	if diff := cmp.Diff([]string{"vfat", "ext4"}, got.Ambivalent); diff != "" || got.Signature != nil {
		t.Errorf("ambivalent %v, signature %v", got.Ambivalent, got.Signature)
	}

	luks := sparse(t, 20*mib)
	run(t, "x", tool(t, "cryptsetup", "cryptsetup-bin"), "luksFormat", "-q", "--type", "luks1", "--pbkdf-force-iterations", "1000", luks, "-")
	copyRange(t, ext4, luks, 1024, 1024)
	if got := same(t, luks); got.Signature == nil || got.Signature.Type != "crypto_LUKS" || got.Ambivalent != nil {
		t.Errorf("LUKS1 over an old ext4: %+v", got)
	}
}

func copyRange(t *testing.T, from, to string, at, length int64) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(content[at:at+length], at); err != nil {
		t.Fatal(err)
	}
}
