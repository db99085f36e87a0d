package bench

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"

	"initd/v2v/image"
	"initd/v2v/inflate"
)

// codecs measures what the codecs alone take on one core for all units of the mixed disk that are no zeros: a conversion cannot be faster than
// that divided by the cores.
type codecs struct {
	b     *testing.B
	units [][]byte
	known map[string]time.Duration
}

const unit = 64 << 10

func newCodecs(b *testing.B, disk string) *codecs {
	b.Helper()
	data, err := os.ReadFile(disk)
	if err != nil {
		b.Fatal(err)
	}
	c := &codecs{b: b, known: map[string]time.Duration{}}
	// A sixteenth tells the rate.
	for off := 0; off+unit <= len(data); off += 16 * unit {
		if u := data[off : off+unit]; !image.IsZero(u) {
			c.units = append(c.units, bytes.Clone(u))
		}
	}
	return c
}

func (c *codecs) once(name string, all func()) time.Duration {
	if d, ok := c.known[name]; ok {
		return d
	}
	var runs runs
	for range rounds {
		began := time.Now()
		all()
		runs = append(runs, run{wall: time.Since(began)})
	}
	c.known[name] = 16 * runs.wall()
	return c.known[name]
}

func (c *codecs) deflate(name string, level int) time.Duration {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, level)
	if err != nil {
		c.b.Fatal(err)
	}
	return c.once(name, func() {
		for _, u := range c.units {
			out.Reset()
			w.Reset(&out)
			if _, err := w.Write(u); err != nil {
				c.b.Fatal(err)
			}
			if err := w.Close(); err != nil {
				c.b.Fatal(err)
			}
		}
	})
}

func (c *codecs) deflate1() time.Duration { return c.deflate("deflate 1", 1) }
func (c *codecs) deflate8() time.Duration { return c.deflate("deflate 8", 8) }

func (c *codecs) inflate() time.Duration {
	var packed [][]byte
	for _, u := range c.units {
		var out bytes.Buffer
		w, err := flate.NewWriter(&out, 6)
		if err == nil {
			_, err = w.Write(u)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			c.b.Fatal(err)
		}
		packed = append(packed, out.Bytes())
	}
	p := make([]byte, unit)
	return c.once("inflate", func() {
		for _, u := range packed {
			if n, _, _, err := inflate.Decode(p, u); n != unit || err != nil {
				c.b.Fatal(n, err)
			}
		}
	})
}

func (c *codecs) encoder() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithWindowSize(unit))
	if err != nil {
		c.b.Fatal(err)
	}
	return e
}

func (c *codecs) zstd() time.Duration {
	e := c.encoder()
	out := make([]byte, 0, 2*unit)
	return c.once("zstd", func() {
		for _, u := range c.units {
			out = e.EncodeAll(u, out[:0])
		}
	})
}

func (c *codecs) unzstd() time.Duration {
	e := c.encoder()
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		c.b.Fatal(err)
	}
	var packed [][]byte
	for _, u := range c.units {
		packed = append(packed, e.EncodeAll(u, nil))
	}
	out := make([]byte, 0, 2*unit)
	return c.once("unzstd", func() {
		for _, u := range packed {
			if out, err = d.DecodeAll(u, out[:0]); err != nil {
				c.b.Fatal(err)
			}
		}
	})
}
