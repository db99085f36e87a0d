package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"initd/initd/cli"
	"initd/v2v/convert"
	"initd/v2v/file"
	"initd/v2v/formats"
	"initd/v2v/image"
)

// The names of the two programs that this one stands in for, with their arguments and their manners: what they did not refuse is not refused,
// and nothing is kept for another run. People look for these names with ps and stop them with pkill.
const (
	nameDiskManager = "v2v-diskmanager"
	nameMechadora   = "mechadora"
)

// oldFormat is one of the old names of formats.
type oldFormat struct {
	format  string
	options []string
	// bare is what a file that matches nothing is taken for: the old words for flat disks also mean an extent without its descriptor.
	bare string
}

func oldFormats() map[string]oldFormat {
	return map[string]oldFormat{
		"VMDK_STREAM_OPTIMIZED": {format: "vmdk", options: []string{"subformat=streamOptimized"}},
		"VMDK_FLAT":             {format: "vmdk", options: []string{"subformat=monolithicFlat"}, bare: "raw"},
		"VMDK_SPARSE":           {format: "vmdk", options: []string{"subformat=monolithicSparse"}},
		"VHD_FLAT":              {format: "vpc", options: []string{"subformat=fixed"}},
		"VHD_SPARSE":            {format: "vpc", options: []string{"subformat=dynamic"}},
		"VHDX_FLAT":             {format: "vhdx"},
		"VHDX_SPARSE":           {format: "vhdx"},
		"VDI_FLAT":              {format: "vdi", options: []string{"subformat=static"}},
		"VDI_SPARSE":            {format: "vdi", options: []string{"subformat=dynamic"}},
		"QCOW2_FLAT":            {format: "qcow2"},
		"QCOW2_SPARSE":          {format: "qcow2"},
		"RAW":                   {format: "raw"},
	}
}

// diskManager is v2v-diskmanager SRC_FORMAT BASE64(SRC) DST_FORMAT BASE64(DST).
func diskManager(ctx context.Context, args []string, stderr io.Writer) error {
	const usage = "usage: " + nameDiskManager + " SRC_FORMAT BASE64(SRC) DST_FORMAT BASE64(DST)"
	if len(args) != 4 {
		return cli.Usage(errors.New(usage))
	}
	from, err1 := oldFormatOf(args[0])
	source, err2 := oldPath(args[1])
	to, err3 := oldFormatOf(args[2])
	target, err4 := oldPath(args[3])
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return cli.Usage(fmt.Errorf("%w; %s", err, usage))
	}
	m := newMeter(stderr, nil, true)
	defer m.end()
	req := convert.Request{Source: source, SourceFormat: from.format, Target: target, TargetFormat: to.format, Options: known(to), Report: m.tell, OpenStream: openPipe}
	req.Open = func(ctx context.Context, src *file.Source, format string, opt image.OpenOptions) (image.Reader, error) {
		r, err := openImage(ctx, src, format, opt)
		if e, ok := errors.AsType[*image.Error](err); ok && from.bare != "" && e.Fault == image.NotThis {
			// Other formats are not guessed at: only what is like nothing is an extent.
			if _, err := openImage(ctx, src, "", opt); noFormat(err) {
				m.note(fmt.Sprintf("%s: no %s descriptor: taken for the extent itself, as -f %s does", source, format, from.bare))
				return openImage(ctx, src, from.bare, opt)
			}
		}
		return r, err
	}
	words := []string{"v2v", "convert", "-f", from.format, "-O", to.format}
	for _, o := range req.Options {
		words = append(words, "-o", o)
	}
	fmt.Fprintln(stderr, shellQuoted(append(words, source, target)))
	done, err := convert.Run(ctx, req)
	if err != nil {
		return err
	}
	m.note(summary(req.Target, done))
	return nil
}

// known leaves out options that the format does not have: a format with one subformat needs none said.
func known(o oldFormat) []string {
	f, err := formats.ByName(o.format)
	if err != nil {
		return o.options
	}
	if _, err := f.ParseOptions(o.options); err != nil && !slices.ContainsFunc(f.Options, func(k image.Option) bool { return k.Name == "subformat" }) {
		return nil
	}
	return o.options
}

func oldFormatOf(word string) (oldFormat, error) {
	f, ok := oldFormats()[strings.ToUpper(word)]
	if !ok {
		return oldFormat{}, fmt.Errorf("%q is no format; there are %s", word, strings.Join(slices.Sorted(maps.Keys(oldFormats())), ", "))
	}
	return f, nil
}

// oldPath decodes a path. Padding and the alphabet for URLs are taken as they come.
func oldPath(word string) (string, error) {
	plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(word, "="))
	b, err := base64.RawStdEncoding.DecodeString(plain)
	if err != nil || len(b) == 0 || strings.ContainsRune(string(b), 0) {
		return "", fmt.Errorf("%q is no path in base64", word)
	}
	if b[0] == '-' { // a path all the same: no pipe, and no flag of the new command
		return "./" + string(b), nil
	}
	return string(b), nil
}

// mechadora is mechadora deploy IP IQN IMAGE BYPATH.
func mechadora(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) != 5 || args[0] != "deploy" {
		return cli.Usage(errors.New("usage: " + nameMechadora + " deploy IP IQN IMAGE BYPATH"))
	}
	d := deployCall{Portal: args[1], IQN: args[2], Image: args[3], ByPath: args[4], Force: true, Fresh: true, rawIfNothing: true, State: stateDir}
	fmt.Fprintln(stderr, shellQuoted([]string{"v2v", "deploy", "--force", "--fresh", "--portal", d.Portal, "--iqn", d.IQN, "--by-path", d.ByPath, d.Image}))
	return d.run(ctx, stdout, stderr, false, false)
}

// openOrRaw takes an image that nobody declared for raw if no format matches it.
func openOrRaw(ctx context.Context, src *file.Source, format string, opt image.OpenOptions, note func(string)) (image.Reader, error) {
	r, err := openImage(ctx, src, format, opt)
	if format == "" && noFormat(err) {
		note(src.Name() + ": matches no format: taken for a raw disk, as -f raw does")
		return openImage(ctx, src, "raw", opt)
	}
	return r, err
}

func noFormat(err error) bool {
	e, ok := errors.AsType[*image.Error](err)
	return ok && (e.Code == formats.CodeNothing || e.Code == formats.CodeOverlay)
}

// shellQuoted writes words so that a shell reads them back.
func shellQuoted(words []string) string {
	plain := regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)
	var quoted []string
	for _, w := range words {
		switch {
		case plain.MatchString(w):
		case strings.ContainsFunc(w, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }):
			// Nothing in a name may reach a terminal as more than text: $'...' of bash and newer shells.
			var b strings.Builder
			for _, c := range []byte(w) {
				if c < ' ' || c > '~' || c == '\'' || c == '\\' {
					fmt.Fprintf(&b, `\x%02x`, c)
				} else {
					b.WriteByte(c)
				}
			}
			w = "$'" + b.String() + "'"
		default:
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		quoted = append(quoted, w)
	}
	return strings.Join(quoted, " ")
}
