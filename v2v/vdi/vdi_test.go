package vdi

import (
	"testing"

	"initd/v2v/image"
	"initd/v2v/image/imagetest"
)

func writing(subformat string) imagetest.Writing {
	return imagetest.Writing{Format: Format(), Options: image.Options{"subformat": subformat}, Name: "disk.vdi", Qemu: "vdi", QemuMax: 4 << 30}
}

func TestBothTypesConform(t *testing.T) {
	for _, s := range []string{"dynamic", "static"} {
		t.Run(s, func(t *testing.T) { imagetest.Writer(t, writing(s)) })
	}
}

func TestBothTypesResume(t *testing.T) {
	d := imagetest.MixedDisk(5, 40<<20+3*imagetest.S)
	for _, s := range []string{"dynamic", "static"} {
		t.Run(s, func(t *testing.T) { imagetest.Resume(t, writing(s), d) })
	}
}
