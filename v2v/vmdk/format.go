package vmdk

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"initd/v2v/image"
)

// The kinds of disks that are written, by the descriptor's createType, which are qemu-img's words too.
const (
	monolithicSparse = "monolithicSparse"
	monolithicFlat   = "monolithicFlat"
	splitSparse      = "twoGbMaxExtentSparse"
	splitFlat        = "twoGbMaxExtentFlat"
	streamOptimized  = "streamOptimized"
)

// Format is VMDK.
func Format() image.Format {
	return image.Format{
		Name:       name,
		Probe:      probe,
		Open:       open,
		OpenStream: openStream,
		Create:     create,
		Resume:     resume,
		Sizes:      sizes,
		Streams:    isStream,
		// Behind the last grain nothing may follow, or the footer is the last sector but one.
		EndCounts: isStream,
		Options: []image.Option{
			{Name: "subformat", Default: monolithicSparse, Help: "how the disk is stored", Values: []string{monolithicSparse, monolithicFlat, splitSparse, splitFlat, streamOptimized}},
			{Name: "adapter_type", Default: "ide", Help: "the controller that the virtual machine has", Values: []string{"ide", "buslogic", "lsilogic", "legacyESX"}},
			{Name: "hwversion", Default: "4", Help: "the virtual hardware version that the descriptor says"},
			{Name: "compress", Default: "zlib", Help: "of streamOptimized", Values: []string{"zlib"}},
			{Name: "level", Default: "6", Help: "of streamOptimized: 1 is fastest, 9 smallest"},
			{Name: "footer", Default: "auto", Help: "of streamOptimized: on puts the tables behind the data, off before them; auto is off for a file and on for a pipe",
				Values: []string{"auto", "on", "off"}},
		},
	}
}

func isStream(opt image.Options) bool { return opt["subformat"] == streamOptimized }

// settings are the options, understood.
type settings struct {
	subformat, adapter, hardware string
	level                        int
	footer                       string
}

func parse(opt image.Options) (settings, error) {
	get := func(key, otherwise string) string {
		if v, ok := opt[key]; ok {
			return v
		}
		return otherwise
	}
	s := settings{subformat: get("subformat", monolithicSparse), adapter: get("adapter_type", "ide"), hardware: get("hwversion", "4"), footer: get("footer", "auto")}
	var err error
	if s.level, err = strconv.Atoi(get("level", "6")); err != nil || s.level < 1 || s.level > 9 {
		return s, fmt.Errorf("vmdk: level=%s: say a number from 1 to 9", opt["level"])
	}
	if v, err := strconv.Atoi(s.hardware); err != nil || v < 1 || v > 99 {
		return s, fmt.Errorf("vmdk: hwversion=%s: say a number, as 10 or 14", s.hardware)
	}
	if s.subformat != streamOptimized {
		for _, key := range []string{"compress", "level", "footer"} {
			if _, said := opt[key]; said {
				return s, fmt.Errorf("vmdk: %s= is for subformat=%s, and this is %s", key, streamOptimized, s.subformat)
			}
		}
	}
	return s, nil
}

func sizes(size int64, opt image.Options) (int64, error) {
	if _, err := parse(opt); err != nil {
		return 0, err
	}
	if size < 0 || size > maxSize {
		return 0, &image.Error{Fault: image.TooLarge, Code: "vmdk-size", Format: name, What: fmt.Sprintf("a disk of %d bytes; at most %d (64 TiB) are written", size, int64(maxSize)),
			Do: "choose raw or qcow2"}
	}
	return image.RoundUp(size, sector), nil
}

func create(_ context.Context, dst image.Target, size int64, opt image.Options) (image.Writer, error) {
	return begin(dst, size, opt, nil)
}

// resume goes on after a checkpoint.
func resume(_ context.Context, dst image.Target, size int64, opt image.Options, state []byte) (image.Writer, error) {
	s, err := decodeState(state)
	if err != nil {
		return nil, fmt.Errorf("%s: vmdk: the record of the unfinished image: %w", dst.Base(), err)
	}
	return begin(dst, size, opt, s)
}

func begin(dst image.Target, size int64, opt image.Options, from *state) (image.Writer, error) {
	set, err := parse(opt)
	if err != nil {
		return nil, err
	}
	if size, err = sizes(size, opt); err != nil {
		return nil, err
	}
	if strings.ContainsAny(dst.Base(), "\"\r\n\x00") {
		return nil, fmt.Errorf("%q: vmdk: a descriptor cannot hold this name; choose another one", dst.Base())
	}
	if set.subformat != monolithicSparse && set.subformat != streamOptimized && (strings.Contains(dst.Base(), `\`) || scheme.MatchString(dst.Base())) {
		return nil, fmt.Errorf("%q: vmdk: readers would take the names of its further files for addresses elsewhere; choose a name without : and \\", dst.Base())
	}
	seekable := dst.Seekable()
	if !seekable && set.subformat != streamOptimized {
		return nil, fmt.Errorf("%s: vmdk: %s cannot be written to a pipe; say -o subformat=%s, or name a file", dst.Base(), set.subformat, streamOptimized)
	}
	if !seekable && set.footer == "off" {
		return nil, fmt.Errorf("%s: vmdk: footer=off needs a file: the tables before the data are known at the end only", dst.Base())
	}
	id := newID()
	if from != nil {
		id = from.ID
	}
	d := describe(set, id, size)
	switch {
	case set.subformat == monolithicFlat || set.subformat == splitFlat:
		return newFlatWriter(dst, d, size, from != nil)
	case set.subformat == splitSparse:
		return newSplitWriter(dst, d, size, from)
	case set.subformat == streamOptimized && (!seekable || set.footer == "on"):
		return newTailWriter(dst, d, size, set.level)
	}
	return newSparseWriter(dst, d, size, set, from)
}
