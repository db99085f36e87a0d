package media

import "encoding/binary"

// The swap header (kernel, include/linux/swap.h, union swap_header): the magic ends the first page, whose size is that
// of the machine that made it.
const (
	swapMagicSize = 10
	swapInfoAt    = 1024
	swapUUIDAt    = 12
	swapLabelAt   = 28
	swapLabelSize = 16
	swapInfoSize  = swapLabelAt + swapLabelSize
)

func probeSwap(r *reader) *Signature {
	for _, page := range []int64{4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10} {
		switch string(r.at(page-swapMagicSize, swapMagicSize)) {
		case "SWAPSPACE2":
			return swap(r, "swap")
		case "S1SUSPEND\x00", "S2SUSPEND\x00", "ULSUSPEND\x00", "LINHIB0001":
			// An image of a hibernated system: it must never be taken for free swap space.
			return swap(r, "swsuspend")
		}
	}
	return nil
}

func swap(r *reader, name string) *Signature {
	info := r.at(swapInfoAt, swapInfoSize)
	if info == nil {
		return nil
	}
	version := binary.LittleEndian.Uint32(info)
	if swapped := binary.BigEndian.Uint32(info); version != 1 && swapped != 1 {
		return nil
	}
	if binary.LittleEndian.Uint32(info[4:]) == 0 {
		return nil // a swap space of no pages
	}
	return &Signature{
		Type: name, Usage: Other, Version: "1",
		UUID: uuid(info[swapUUIDAt:][:16]), Label: text(info[swapLabelAt:][:swapLabelSize]),
	}
}
