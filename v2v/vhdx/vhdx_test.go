package vhdx

import (
	"testing"

	"initd/v2v/image"
	"initd/v2v/image/imagetest"
)

// An empty disk is not shown to qemu-img: it counts its blocks down from zero, and demands a table of 64 MiB.
func writing(blockSize string) imagetest.Writing {
	w := imagetest.Writing{Format: Format(), Options: image.Options{}, Name: "disk.vhdx", Qemu: "vhdx", QemuMin: 1, QemuMax: 4 << 30}
	if blockSize != "" {
		w.Options["block_size"] = blockSize
	}
	return w
}

func TestEveryBlockSizeConforms(t *testing.T) {
	for _, s := range []string{"", "1M", "256M"} {
		t.Run("block_size="+s, func(t *testing.T) { imagetest.Writer(t, writing(s)) })
	}
}

func TestItResumes(t *testing.T) {
	d := imagetest.MixedDisk(5, 40<<20+3*imagetest.S)
	for _, s := range []string{"", "1M"} {
		t.Run("block_size="+s, func(t *testing.T) { imagetest.Resume(t, writing(s), d) })
	}
}
