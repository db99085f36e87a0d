package vpc

import (
	"testing"

	"initd/v2v/image"
	"initd/v2v/image/imagetest"
)

func writing(subformat string) imagetest.Writing {
	least := int64(0)
	if subformat == "fixed" { // qemu-img takes the footer of an empty disk for the copy of a dynamic one's
		least = 1
	}
	return imagetest.Writing{QemuMin: least, Format: Format(), Options: image.Options{"subformat": subformat}, Name: "disk.vhd", Qemu: "vpc", QemuMax: 4 << 30, MaxSize: 2040 << 30}
}

func TestBothTypesConform(t *testing.T) {
	for _, s := range []string{"dynamic", "fixed"} {
		t.Run(s, func(t *testing.T) { imagetest.Writer(t, writing(s)) })
		t.Run(s+" rounded to the geometry", func(t *testing.T) {
			w := writing(s)
			w.Options["force_size"] = "off"
			imagetest.Writer(t, w)
		})
	}
}

func TestBothTypesResume(t *testing.T) {
	d := imagetest.MixedDisk(5, 40<<20+3*imagetest.S)
	for _, s := range []string{"dynamic", "fixed"} {
		t.Run(s, func(t *testing.T) { imagetest.Resume(t, writing(s), d) })
	}
}
