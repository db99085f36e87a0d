package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"initd/initd/cli"
	"initd/v2v/convert"
	"initd/v2v/formats"
	"initd/v2v/image"
	"initd/v2v/sandbox"
)

func convertCommand() *cobra.Command {
	var o reading
	req := convert.Request{Open: openImage, OpenStream: openPipe}
	var rate, size string
	var quiet, progress, compress, asJSON, idle, anyOrder bool
	c := &cobra.Command{
		Use:   "convert [-f FMT] -O FMT [-o KEY=VALUE,...] SRC DST",
		Short: "Convert an image to another format",
		Long: `Convert SRC to DST. Either may be - for a pipe, where the format allows it; DST may be a block device, which nobody else may be using.

DST is written under a hidden name beside its place, made durable, and only then gets its name: an existing file of that name is
replaced as a whole, at the end, and stays as it is if anything fails. A signal or an error leaves nothing; what a killed
run left is removed by the next one to the same DST. With --resume it is kept instead, and the same command goes on there.

v2v formats lists what -o takes.`,
		Example: `  v2v convert -O qcow2 -o compress=zstd template.vmdk template.qcow2
  v2v convert -f raw -O vmdk -o subformat=streamOptimized --verify disk.img disk.vmdk
  ssh host cat disk.raw | v2v convert -f raw --size 20G -O qcow2 - disk.qcow2`,
		Args: cli.Exactly(2),
		RunE: func(c *cobra.Command, args []string) error {
			req.Source, req.Target = args[0], args[1]
			if err := o.check(); err != nil {
				return err
			}
			if req.TargetFormat == "" {
				return cli.Usage(errors.New("say what it becomes: -O qcow2, for example"))
			}
			if err := sizeFlags(map[string]*int64{"size": &o.opening.StreamSize, "rate": &req.Rate}, map[string]string{"size": size, "rate": rate}); err != nil {
				return err
			}
			if size != "" && req.Source != "-" {
				return cli.Usage(errors.New("--size is of a raw disk that comes from a pipe; what is in a file keeps its size"))
			}
			req.SourceFormat, req.Opening, req.Files = o.format, o.opening, o.files
			if compress {
				req.Options = append(req.Options, compressOption(req.TargetFormat, req.Options)...)
			}
			if err := req.Check(); err != nil {
				return cli.Usage(err)
			}
			req.Stdin, req.Stdout = c.InOrStdin(), c.OutOrStdout()
			if req.Target == "-" && nowhere(req.Stdout) {
				return errors.New("standard output is closed; give it a pipe, or name the target")
			}
			if idle {
				if err := convert.Idle(); err != nil {
					return err
				}
			}
			return convertNow(c, req, quiet, progress, asJSON)
		},
	}
	o.flags(c)
	f := c.Flags()
	f.StringVarP(&req.TargetFormat, "target-format", "O", "", "make this `FORMAT`")
	f.StringArrayVarP(&req.Options, "option", "o", nil, "`KEY=VALUE,...` of the target's format")
	f.BoolVarP(&compress, "compress", "c", false, "the same as -o compress=zlib, or -o subformat=streamOptimized for vmdk")
	f.BoolVar(&req.Verify, "verify", false, "read the target back and compare digests before it gets its name")
	f.BoolVar(&req.Resume, "resume", false, "go on where an earlier run with --resume ended, and keep what is unfinished for the next one")
	f.BoolVar(&req.NoSpaceCheck, "no-space-check", false, "begin although there may be too little room")
	f.StringVarP(&rate, "rate", "r", "", "read at most `SIZE` a second")
	f.BoolVar(&idle, "idle", false, "use disks only when nobody else does")
	f.IntVarP(&req.Workers, "workers", "m", 0, "decode and encode in `N` goroutines (default: as many as fit the cores)")
	f.StringVar(&size, "size", "", "virtual `SIZE` of a raw disk that comes from a pipe")
	f.BoolVarP(&progress, "progress", "p", false, "show progress, also where it goes to a file")
	f.BoolVarP(&quiet, "quiet", "q", false, "print nothing but errors")
	f.BoolVar(&asJSON, "json", false, "print progress and result as lines of JSON")
	f.BoolVarP(&anyOrder, "out-of-order", "W", false, "for callers of qemu-img: ignored, order costs nothing here")
	_ = f.MarkHidden("out-of-order")
	_ = c.RegisterFlagCompletionFunc("target-format", completeFormats)
	return c
}

// nowhere says whether a stream was closed when the program began: the runtime opens /dev/null then, for reading and writing.
func nowhere(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	var st unix.Stat_t
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_ACCMODE == unix.O_RDWR && unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}

func sizeFlags(to map[string]*int64, words map[string]string) error {
	for name, word := range words {
		if word == "" {
			continue
		}
		n, err := image.Bytes(word)
		if err != nil {
			return cli.Usage(fmt.Errorf("--%s: %w", name, err))
		}
		*to[name] = n
	}
	return nil
}

// compressOption is what -c means for a format.
func compressOption(format string, said []string) []string {
	all := strings.Join(said, ",")
	if f, err := formats.ByName(format); err == nil && f.Name == "vmdk" && !strings.Contains(all, "subformat=") {
		return []string{"subformat=streamOptimized"}
	}
	if strings.Contains(all, "compress=") && !strings.Contains(all, "compress=none") {
		return nil
	}
	return []string{"compress=zlib"}
}

func convertNow(c *cobra.Command, req convert.Request, quiet, progress, asJSON bool) error {
	out := c.OutOrStdout()
	if req.Target == "-" {
		out = c.ErrOrStderr()
	}
	m := newMeter(c.ErrOrStderr(), nil, !quiet && !asJSON)
	if asJSON {
		m = newMeter(nil, out, false)
	}
	_ = progress // shown unless -q says otherwise; the flag is qemu-img's
	req.Report = m.tell
	done, err := convert.Run(c.Context(), req)
	m.end()
	if err != nil {
		m.fail(err)
		return err
	}
	if asJSON {
		return json.NewEncoder(out).Encode(struct {
			Phase    string  `json:"phase"`
			Target   string  `json:"target"`
			Format   string  `json:"format"`
			Size     int64   `json:"size"`
			Data     int64   `json:"data"`
			Zeros    int64   `json:"zeros"`
			Written  int64   `json:"written"`
			Resumed  int64   `json:"resumed,omitempty"`
			Shared   bool    `json:"shared,omitempty"`
			Verified bool    `json:"verified"`
			Digest   string  `json:"digest,omitempty"`
			Seconds  float64 `json:"seconds"`
		}{"done", req.Target, done.Format, done.Size, done.Data, done.Zeros, done.Written, done.Resumed, done.Shared, done.Verified, hex.EncodeToString(done.Digest), done.Took.Seconds()})
	}
	if !quiet {
		fmt.Fprintln(c.ErrOrStderr(), summary(req.Target, done))
	}
	return nil
}

func summary(name string, done convert.Outcome) string {
	if name == "-" {
		name = "standard output"
	}
	s := fmt.Sprintf("%s: %s, %s, %s of data in %s", sandbox.Clean(name), done.Format, bytesText(done.Size), bytesText(done.Data), durationText(done.Took))
	if sec := done.Took.Seconds(); sec >= 0.1 && done.Data > 0 && !done.Shared {
		s += fmt.Sprintf(" (%s/s)", bytesText(int64(float64(done.Data)/sec)))
	}
	if done.Resumed > 0 {
		s += fmt.Sprintf(", resumed at %s", bytesText(done.Resumed))
	}
	if done.Shared {
		s += ", sharing the source's blocks"
	}
	if done.Verified {
		s += ", verified"
	}
	return s
}
