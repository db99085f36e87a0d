// Package formats is the list of the disk formats, and finds out which one a file is of.
//
// The user declares, detection confirms: what is declared is opened as nothing else, and a guess is never made. It opens no path.
package formats

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"initd/v2v/image"
	"initd/v2v/ova"
	"initd/v2v/qcow2"
	"initd/v2v/raw"
	"initd/v2v/vdi"
	"initd/v2v/vhdx"
	"initd/v2v/vmdk"
	"initd/v2v/vpc"
)

// All lists the formats, in the order in which detection asks them.
func All() []image.Format {
	disks := []image.Format{
		qcow2.Format(),
		raw.Format(),
		vmdk.Format(),
		vhdx.Format(),
		vpc.Format(),
		vdi.Format(),
	}
	return append([]image.Format{ova.Format(disks...)}, disks...)
}

// ByName finds a format by qemu-img's name of it or an alias, in any case.
func ByName(name string) (image.Format, error) {
	all := All()
	i := slices.IndexFunc(all, func(f image.Format) bool {
		return strings.EqualFold(f.Name, name) || slices.ContainsFunc(f.Aliases, func(a string) bool { return strings.EqualFold(a, name) })
	})
	if i < 0 {
		return image.Format{}, fmt.Errorf("no format is called %q; there are %s", name, strings.Join(Names(), ", "))
	}
	return all[i], nil
}

// Names lists qemu-img's names of the formats.
func Names() []string {
	var names []string
	for _, f := range All() {
		names = append(names, f.Name)
	}
	return names
}

// Open finds out a source's format, holds it against the declared one, and opens it. Declared is a name of ByName; "" declares nothing, and
// then a file that matches no format, or more than one, is refused. The source belongs to the reader once there is one.
func Open(ctx context.Context, src image.Source, declared string, opt image.OpenOptions) (image.Format, image.Reader, error) {
	f, err := Choose(src, declared)
	if err != nil {
		return image.Format{}, nil, err
	}
	r, err := f.Open(ctx, src, opt)
	if err != nil {
		return image.Format{}, nil, err
	}
	return f, r, nil
}

// Choose is the decision of Open without the opening.
func Choose(src image.Source, declared string) (image.Format, error) {
	var want image.Format
	if declared != "" {
		var err error
		if want, err = ByName(declared); err != nil {
			return image.Format{}, err
		}
		if want.Name == "raw" {
			// Whatever a raw disk begins with is its guest's business.
			return want, nil
		}
	}
	found, err := Detect(src)
	if err != nil {
		return image.Format{}, err
	}
	return found.choose(src.Name(), want)
}
