package vmdk

import (
	"testing"

	"initd/v2v/image"
	"initd/v2v/image/imagetest"
)

func writing(subformat string) imagetest.Writing {
	return imagetest.Writing{Format: Format(), Options: image.Options{"subformat": subformat}, Name: "disk.vmdk", Qemu: "vmdk", QemuMin: 1, QemuMax: 4 << 30}
}

func TestEverySubformatConforms(t *testing.T) {
	for _, subformat := range Format().Options[0].Values {
		t.Run(subformat, func(t *testing.T) { imagetest.Writer(t, writing(subformat)) })
	}
	t.Run("streamOptimized with a footer", func(t *testing.T) {
		w := writing(streamOptimized)
		w.Options["footer"] = "on"
		imagetest.Writer(t, w)
	})
	t.Run("streamOptimized to a pipe", func(t *testing.T) {
		w := writing(streamOptimized)
		w.Stream = true
		imagetest.Writer(t, w)
	})
}

func TestEverySubformatResumes(t *testing.T) {
	d := imagetest.Disk{Name: "over two extents", Size: 4<<30 + 16<<20 + 3*imagetest.S, Ranges: []imagetest.Range{
		{Off: 0, Len: 40 << 20, Fill: imagetest.Text}, {Off: 1 << 30, Len: 8 << 20, Fill: imagetest.Random}, {Off: splitBytes - 1<<20, Len: 3 << 20, Fill: imagetest.Text},
		{Off: 4<<30 - 1<<20, Len: 17<<20 + 3*imagetest.S, Fill: imagetest.Random}}} // more than a life writes lies in the last extent
	for _, subformat := range Format().Options[0].Values {
		t.Run(subformat, func(t *testing.T) { imagetest.Resume(t, writing(subformat), d) })
	}
}
