package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"initd/hw/block/media"
	"initd/hw/sysfs"
	"initd/initd/cli"
	"initd/v2v/convert"
	"initd/v2v/deploy"
	"initd/v2v/file"
	"initd/v2v/image"
	"initd/v2v/sandbox"
)

// stateDir is where records and the queue of this machine live.
const stateDir = "/var/lib/v2v"

// deployCall is one deploy, as words. It marshals: a job carries it.
type deployCall struct {
	Portal  string `json:"portal,omitempty"`
	IQN     string `json:"iqn,omitempty"`
	ByPath  string `json:"byPath,omitempty"`
	Device  string `json:"device,omitempty"`
	WWID    string `json:"wwid,omitempty"`
	Image   string `json:"image"`
	Format  string `json:"format,omitempty"`
	Machine string `json:"machine,omitempty"`

	Force       bool              `json:"force,omitempty"`
	Fresh       bool              `json:"fresh,omitempty"`
	NoVerify    bool              `json:"noVerify,omitempty"`
	WipeRest    bool              `json:"wipeRest,omitempty"`
	NoLogin     bool              `json:"noLogin,omitempty"`
	KeepSession bool              `json:"keepSession,omitempty"`
	CHAPFile    string            `json:"chapFile,omitempty"`
	Initiator   string            `json:"initiator,omitempty"`
	Wait        time.Duration     `json:"wait,omitempty"`
	Rate        int64             `json:"rate,omitempty"`
	MarkEvery   int64             `json:"markEvery,omitempty"`
	Opening     image.OpenOptions `json:"opening,omitzero"`
	Alone       bool              `json:"alone,omitempty"`
	Shared      bool              `json:"shared,omitempty"`
	State       string            `json:"state,omitempty"`

	// rawIfNothing takes an image that nobody declared and that matches no format for raw, as the old name does.
	rawIfNothing bool
	// These are deploy.Request's.
	job    string
	since  time.Time
	handed *deploy.Record
	hand   func(context.Context, deploy.Record) error
}

const deployUse = "deploy [-f FMT] --by-path ip-IP:PORT-iscsi-IQN-lun-N | --device DEV  IMG"

func deployCommand() *cobra.Command {
	var d deployCall
	var o reading
	var sizes deploySizes
	var quiet, asJSON bool
	c := &cobra.Command{
		Use:   deployUse,
		Short: "Write an image onto a machine's disk",
		Long: `Write IMG onto a disk: a LUN of an iSCSI target, by its name below /dev/disk/by-path, or a device of this machine.

The disk is waited for, and has to be the one that was meant: sysfs tells target, portal and LUN, or --wwid the identity; links in /dev are not
believed. It must be large enough and nobody's: not mounted, not part of anything, not open elsewhere. Content that is known (a
partition table, a file system, an encrypted volume) is only overwritten with --force. If there is no session with the target, one is
made, kept for as long as this takes, and ended.

How far the disk is, and in the end what machine came from what image, is recorded below ` + stateDir + `/deploy. After a kill or a
lost target the same command goes on where it was, if disk and image are still the same.`,
		Example: `  v2v deploy --by-path ip-192.0.2.50:3260-iscsi-iqn.2010-10.org.example:vm-17-lun-0 --machine vm-17 template.vmdk
  v2v deploy --device /dev/sdb --wwid naa.600140512345 -f raw disk.img`,
		Args: cli.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			d.Image = args[0]
			if err := d.complete(&o, sizes); err != nil {
				return err
			}
			return d.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), quiet, asJSON)
		},
	}
	d.flags(c, &o, &sizes)
	f := c.Flags()
	f.BoolVarP(&quiet, "quiet", "q", false, "print nothing but errors")
	f.BoolVar(&asJSON, "json", false, "print progress and result as lines of JSON")
	return c
}

// deploySizes are numbers as words.
type deploySizes struct{ rate, markEvery string }

func (d *deployCall) flags(c *cobra.Command, o *reading, s *deploySizes) {
	o.flags(c)
	f := c.Flags()
	f.StringVar(&d.ByPath, "by-path", "", "the disk's `NAME` below /dev/disk/by-path")
	f.StringVar(&d.Portal, "portal", "", "`IP[:PORT]` of the target, which has to agree with the path")
	f.StringVar(&d.IQN, "iqn", "", "`NAME` of the target, which has to agree with the path")
	f.StringVar(&d.Device, "device", "", "a device of this machine instead: `DEV`")
	f.StringVar(&d.WWID, "wwid", "", "the disk has to be of this `IDENTITY` (/sys/block/sdX/device/wwid)")
	f.StringVar(&d.Machine, "machine", "", "`NAME` of the machine, for the record")
	f.BoolVar(&d.Force, "force", false, "overwrite what is on the disk")
	f.BoolVar(&d.Fresh, "fresh", false, "begin anew, also where an earlier run could be gone on with")
	f.BoolVar(&d.NoVerify, "no-verify", false, "do not read the disk back")
	f.BoolVar(&d.WipeRest, "wipe-rest", false, "make what lies behind the image read as zeros (only the last MiB does otherwise)")
	f.BoolVar(&d.NoLogin, "no-login", false, "make no session: somebody else does")
	f.BoolVar(&d.KeepSession, "keep-session", false, "leave a session that was made")
	f.StringVar(&d.CHAPFile, "chap-file", "", "`FILE` with user=, secret= and, for the target's proof, mutual-secret=")
	f.StringVar(&d.Initiator, "initiator", "", "initiator `NAME` (default: this machine's)")
	f.DurationVar(&d.Wait, "wait", time.Minute, "how long the disk may take to come")
	f.StringVar(&s.markEvery, "mark-every", "64M", "note how far the disk is after each `SIZE`, which costs a flush")
	f.StringVarP(&s.rate, "rate", "r", "", "read at most `SIZE` a second")
	f.StringVar(&d.State, "state", stateDir, "where records lie")
}

// complete turns words into what they mean, and finds wrong calls.
func (d *deployCall) complete(o *reading, s deploySizes) error {
	if err := o.check(); err != nil {
		return err
	}
	d.Format, d.Opening, d.Alone, d.Shared = o.format, o.opening, o.files.NoSiblings, o.files.Shared
	if err := sizeFlags(map[string]*int64{"rate": &d.Rate, "mark-every": &d.MarkEvery}, map[string]string{"rate": s.rate, "mark-every": s.markEvery}); err != nil {
		return err
	}
	if (d.ByPath == "") == (d.Device == "") {
		return cli.Usage(errors.New("say which disk: --by-path, or --device"))
	}
	disk := deploy.Disk{Portal: d.Portal, IQN: d.IQN, ByPath: d.ByPath, Device: d.Device}
	if err := disk.Check(); err != nil {
		return cli.Usage(err)
	}
	if d.Wait <= 0 {
		return cli.Usage(errors.New("--wait: a time above zero"))
	}
	return nil
}

// do deploys. note hears what people should know once.
func (d deployCall) do(ctx context.Context, report func(deploy.Event)) (deploy.Outcome, error) {
	sys, err := sysfs.Open("/")
	if err != nil {
		return deploy.Outcome{}, err
	}
	defer sys.Close()
	req := deploy.Request{Disk: deploy.Disk{Portal: d.Portal, IQN: d.IQN, ByPath: d.ByPath, Device: d.Device, WWID: d.WWID}, Image: d.Image, Format: d.Format,
		Opening: d.Opening, Files: file.OpenOptions{NoSiblings: d.Alone, Shared: d.Shared}, Machine: d.Machine, Force: d.Force, Fresh: d.Fresh, NoVerify: d.NoVerify,
		Job: d.job, Since: d.since, Handed: d.handed, Hand: d.hand, WipeRest: d.WipeRest, Wait: d.Wait, Rate: d.Rate, MarkEvery: d.MarkEvery, State: d.State, Report: report, Sys: sys, Open: openImage, Content: contentOf}
	if req.State == "" {
		req.State = stateDir
	}
	if d.rawIfNothing {
		req.Open = func(ctx context.Context, src *file.Source, format string, opt image.OpenOptions) (image.Reader, error) {
			return openOrRaw(ctx, src, format, opt, func(s string) { report(deploy.Event{Note: s}) })
		}
	}
	s := &session{chapFile: d.CHAPFile, initiator: d.Initiator, keep: d.KeepSession, note: func(text string) { report(deploy.Event{Note: text}) }}
	defer s.close()
	if !d.NoLogin && d.Device == "" {
		req.Login = s.login
	}
	return deploy.Run(ctx, req)
}

func (d deployCall) run(ctx context.Context, stdout, stderr io.Writer, quiet, asJSON bool) error {
	m := newMeter(stderr, nil, !quiet && !asJSON)
	if asJSON {
		m = newMeter(nil, stdout, false)
	}
	out, err := d.do(ctx, func(e deploy.Event) {
		m.tell(convert.Event{Phase: e.Phase, Progress: e.Progress, Total: e.Total, Note: e.Note})
	})
	m.end()
	if err != nil {
		m.fail(err)
		return err
	}
	if asJSON {
		return json.NewEncoder(stdout).Encode(struct {
			Phase string `json:"phase"`
			deployed
		}{"done", deployed(out)})
	}
	if !quiet {
		fmt.Fprintln(stderr, deploySummary(out))
	}
	return nil
}

// deployed is an outcome without the methods, which would win over the object around it.
type deployed deploy.Outcome

func deploySummary(o deploy.Outcome) string {
	s := fmt.Sprintf("%s (%s): %s, %s of data in %s", o.Target.Path, filepath.Base(o.Device), bytesText(o.Image.Virtual), bytesText(o.Data), durationText(o.Took))
	if o.Resumed > 0 {
		s += fmt.Sprintf(", resumed at %s", bytesText(o.Resumed))
	}
	if o.Verified {
		s += ", verified"
	}
	return s
}

const contentCall = "content"

// contentOf looks at a disk without rights: whoever had the disk before may have written anything to it.
func contentOf(ctx context.Context, disk *file.Source) (string, error) {
	out, err := sandbox.Call(ctx, disk, sandbox.Options{}, contentCall, nil)
	return string(out), err
}

// content is contentOf in the child.
func content(_ context.Context, disk image.Source, _ []byte) ([]byte, error) {
	c, err := media.Probe(media.Medium{ReaderAt: disk, Size: disk.Size()})
	return []byte(deploy.Describe(c)), err
}
