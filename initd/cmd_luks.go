package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"initd/hw/block/media"
	"initd/hw/luks"
	"initd/hw/secret"
	"initd/hw/sysfs"
	"initd/initd/cli"
)

func luksCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "luks",
		Short: "Look at LUKS volumes",
		Args:  cli.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(luksVerifyCommand())
	return c
}

// luksVerify is one call of luks verify.
type luksVerify struct {
	device, header, keyFile string
	asJSON                  bool
}

func luksVerifyCommand() *cobra.Command {
	var v luksVerify
	c := &cobra.Command{
		Use:   "verify --device PATH --key-file PATH|-",
		Short: "Prove that a key opens a volume, without opening it",
		Long: `Derives the volume key from the key file and checks it against the header: nothing is mapped,
written or loaded, and the key is forgotten. A key file counts as it is, a newline at its end included.
Exit status 0: it opens; 1: it does not; 2: there is no LUKS volume, or a damaged one, and how.`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if v.device == "" || v.keyFile == "" {
				return cli.Misused(c)
			}
			return v.run(c.Context(), c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&v.device, "device", "", "block device, or file, that holds the volume")
	f.StringVar(&v.header, "header", "", "file or device with the detached header")
	f.StringVar(&v.keyFile, "key-file", "", "file with the key; - for standard input")
	f.BoolVar(&v.asJSON, "json", false, "print the answer as JSON")
	return c
}

// luksAnswer is what --json prints.
type luksAnswer struct {
	Opens  bool   `json:"opens"`
	Device string `json:"device"`
	*luks.Verified
	Code  string `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
}

func (v luksVerify) run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	if err := secret.ProtectProcess(); errors.Is(err, secret.ErrNotLocked) && swapInUse() {
		fmt.Fprintln(stderr, "initd luks verify: note: memory cannot be locked here, so traces of the key may reach swap; root can lock it")
	} else if err != nil && !errors.Is(err, secret.ErrNotLocked) {
		return err
	}
	found, key, err := v.verify(ctx, stdin)
	defer key.Destroy()
	answer := luksAnswer{Opens: err == nil, Device: v.device}
	switch {
	case err == nil:
		answer.Verified = &found
	default:
		answer.Error = err.Error()
		if coded, ok := errors.AsType[interface {
			error
			Code() string
		}](err); ok {
			answer.Code = coded.Code()
		}
	}
	if v.asJSON {
		if err := writeJSON(stdout, answer); err != nil {
			return err
		}
	} else if err == nil {
		if err := v.print(stdout, found); err != nil {
			return err
		}
	}
	if err == nil {
		return nil
	}
	if !v.asJSON {
		fmt.Fprintf(stderr, "initd luks verify: %s: %v\n", v.device, err)
		if hint := luksHint(err, key); hint != "" {
			fmt.Fprintf(stderr, "hint: %s\n", hint)
		}
	}
	return exitCode(luksStatus(err))
}

// verify returns the key too, which the caller destroys, as far as it was read.
func (v luksVerify) verify(ctx context.Context, stdin io.Reader) (luks.Verified, *secret.Buffer, error) {
	device, err := openMedium(v.device)
	if err != nil {
		return luks.Verified{}, nil, cli.Usage(err)
	}
	defer device.Close()
	request := luks.VerifyRequest{Header: device, Foreign: foreignSignature}
	size, err := device.Seek(0, io.SeekEnd)
	if err != nil {
		return luks.Verified{}, nil, cli.Usage(err)
	}
	request.DataSize = uint64(size)
	if v.header != "" {
		header, err := openMedium(v.header)
		if err != nil {
			return luks.Verified{}, nil, cli.Usage(err)
		}
		defer header.Close()
		request.Header, request.Detached = header, true
	}
	key, err := readKeyFile(v.keyFile, stdin)
	if err != nil {
		return luks.Verified{}, nil, cli.Usage(err)
	}
	request.Keys = []*secret.Buffer{key}
	root, err := sysfs.Open("/")
	if err != nil {
		return luks.Verified{}, key, err
	}
	defer root.Close()
	if request.MemoryKiB, err = luks.AvailableMemory(root); err != nil {
		return luks.Verified{}, key, err
	}
	found, err := luks.Verify(ctx, request)
	return found, key, err
}

// openMedium opens a disk, or a file that holds what a disk does; a pipe would be waited for.
func openMedium(path string) (*os.File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if m := st.Mode(); !m.IsRegular() && m.Type() != fs.ModeDevice {
		return nil, fmt.Errorf("%s is neither a disk nor a file", path)
	}
	return os.Open(path)
}

func readKeyFile(path string, stdin io.Reader) (*secret.Buffer, error) {
	if path == "-" {
		key, err := secret.Read(stdin, luks.MaxKey)
		if err != nil {
			return nil, fmt.Errorf("standard input: %w", err)
		}
		return key, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	key, err := secret.Read(file, luks.MaxKey)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func (v luksVerify) print(w io.Writer, found luks.Verified) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	fmt.Fprintf(w, "%s opens with this key.\n", v.device)
	line("volume", "LUKS%d %s", found.Version, found.UUID)
	line("slot", "%d", found.Slot)
	line("cipher", "%s, key of %d bits", found.Cipher, found.KeySize*8)
	line("sector size", "%d bytes", found.SectorSize)
	line("data", "%d MiB from byte %d", found.Length>>20, found.Offset)
	switch header := cmp.Or(v.header, v.device); {
	case found.Secondary:
		line("header", "the second copy; the first: %s (to mend it: cryptsetup repair %s)", found.Damage, header)
	case found.Damage != "":
		line("header", "the first copy; the second: %s (to mend it: cryptsetup repair %s)", found.Damage, header)
	}
	return t.Flush()
}

// luksStatus is 2 where there is nothing that a key could open.
func luksStatus(err error) int {
	if _, ok := errors.AsType[*luks.NotLUKSError](err); ok {
		return 2
	}
	if _, ok := errors.AsType[*luks.DamagedError](err); ok {
		return 2
	}
	if cli.IsUsage(err) {
		return 2
	}
	return 1
}

func luksHint(err error, key *secret.Buffer) string {
	if _, ok := errors.AsType[*luks.NoMatchingKeyError](err); ok {
		if text := key.Bytes(); len(text) > 0 && text[len(text)-1] == '\n' {
			return "the key ends in a newline, which counts; printf writes one without"
		}
		return "check which key belongs to this volume; cryptsetup luksDump shows its slots"
	}
	if hinted, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		return hinted.Hint()
	}
	return ""
}

// foreignSignature names what else than LUKS is on a medium.
func foreignSignature(r io.ReaderAt) (string, error) {
	medium := media.Medium{ReaderAt: r}
	if s, ok := r.(io.Seeker); ok {
		size, err := s.Seek(0, io.SeekEnd)
		if err != nil {
			return "", err
		}
		medium.Size = size
	}
	content, err := media.Probe(medium)
	switch {
	case err != nil:
		return "", err
	case content.Signature != nil:
		return "it holds " + content.Signature.Type, nil
	case len(content.Ambivalent) > 0:
		return "it holds " + strings.Join(content.Ambivalent, " or "), nil
	case content.Table != nil:
		return "it holds a partition table (" + content.Table.Type + ")", nil
	}
	found, err := media.Trace(medium)
	if found != "" {
		found = "it holds " + found
	}
	return found, err
}

// swapInUse says whether pages could go to a swap device at all.
func swapInUse() bool {
	swaps, err := os.ReadFile("/proc/swaps")
	return err != nil || strings.Count(strings.TrimSpace(string(swaps)), "\n") > 0
}
