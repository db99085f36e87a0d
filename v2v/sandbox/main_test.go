package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"initd/v2v/file"
	"initd/v2v/formats"
	"initd/v2v/image"
)

// TestMain plays the program: its children read what formats knows, and do what hostile images make a broken reader do.
func TestMain(m *testing.M) {
	Main(Roles{
		Open: func(ctx context.Context, src image.Source, format string, opt image.OpenOptions) (image.Reader, error) {
			if act, ok := hostile()[format]; ok {
				return act(src)
			}
			_, r, err := formats.Open(ctx, src, format, opt)
			return r, err
		},
		Stream: func(_ context.Context, r io.Reader, name, format string, _ image.OpenOptions) (image.Streamer, error) {
			return &stepStream{r: r, lie: format == "lie"}, nil
		},
		Calls: map[string]func(context.Context, image.Source, []byte) ([]byte, error){
			"first": func(_ context.Context, src image.Source, in []byte) ([]byte, error) {
				b := make([]byte, len(in))
				_, err := src.ReadAt(b, 0)
				return b, err
			},
		},
	})
	if os.Getenv("V2V_TEST_PARENT") != "" {
		playParent()
	}
	os.Exit(m.Run())
}

// playParent opens a file in a child, says its number, and lives until it is killed.
func playParent() {
	src, err := file.Open(os.Getenv("V2V_TEST_PARENT"), file.OpenOptions{})
	if err != nil {
		panic(err)
	}
	r, err := Open(context.Background(), src, Options{Format: "raw"})
	if err != nil {
		panic(err)
	}
	fmt.Println(r.(*reader).PID())
	select {}
}

// hostile is what readers do that were taken over, or that an image leads astray. The name of the deed is the format.
func hostile() map[string]func(image.Source) (image.Reader, error) {
	tried := func(what string, err error) (image.Reader, error) {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return map[string]func(image.Source) (image.Reader, error){
		"loops for ever while it opens": func(image.Source) (image.Reader, error) {
			for i := 0; ; i++ {
				if i < 0 {
					return nil, nil
				}
			}
		},
		"allocates without end": func(image.Source) (image.Reader, error) {
			var all [][]byte
			for {
				b := make([]byte, 16<<20)
				for i := 0; i < len(b); i += 4096 {
					b[i] = 1
				}
				//lint:ignore SA4010 it is kept so that it is not freed
				all = append(all, b)
			}
		},
		"recurses without end": func(image.Source) (image.Reader, error) {
			var f func(int) int
			f = func(n int) int { return f(n+1) + 1 }
			return nil, fmt.Errorf("%d", f(0))
		},
		"reads beyond a table": func(src image.Source) (image.Reader, error) {
			table := make([]byte, 3)
			return nil, fmt.Errorf("%d", table[src.Size()])
		},
		"ends itself": func(image.Source) (image.Reader, error) { os.Exit(0); return nil, nil },
		"executes a program": func(image.Source) (image.Reader, error) {
			return tried("exec", exec.Command("/bin/true").Run())
		},
		"opens a file": func(image.Source) (image.Reader, error) {
			_, err := os.ReadFile("/etc/passwd")
			return tried("read", err)
		},
		"makes a file": func(image.Source) (image.Reader, error) {
			return tried("write", os.WriteFile("/tmp/v2v-sandbox-was-here", nil, 0o600))
		},
		"connects": func(image.Source) (image.Reader, error) {
			_, err := net.Dial("tcp", "127.0.0.1:22")
			return tried("dial", err)
		},
		"writes to the image": func(image.Source) (image.Reader, error) {
			_, err := unix.Write(fdSource, []byte("x"))
			return tried("write", err)
		},
		"cuts the image": func(image.Source) (image.Reader, error) { return tried("truncate", unix.Ftruncate(fdSource, 0)) },
		"makes the descriptor blocking": func(image.Source) (image.Reader, error) {
			return tried("fcntl", unix.SetNonblock(fdSource, false))
		},
		"signals its parent":   func(image.Source) (image.Reader, error) { return tried("kill", unix.Kill(os.Getppid(), unix.SIGUSR1)) },
		"traces its parent":    func(image.Source) (image.Reader, error) { return tried("ptrace", unix.PtraceAttach(os.Getppid())) },
		"answers with garbage": func(image.Source) (image.Reader, error) { return nil, errors.Join(say([]byte("garbage")), wait()) },
		"answers too much":     func(image.Source) (image.Reader, error) { return nil, errors.Join(say(make([]byte, 100<<10)), wait()) },
		"answers another slot": answers(message{op: opOpen, slot: 1 << 30}),
		"answers what was not asked": func(image.Source) (image.Reader, error) {
			b, _ := message{op: opOpen, n: 2}.encode()
			return nil, errors.Join(say(b), say(b), wait())
		},
		"describes beyond its slot":    answers(message{op: opOpen, n: SlotSize + 1}),
		"describes less than nothing":  answers(message{op: opOpen, n: -1}),
		"is torn when it says a fault": answers(message{op: opOpen, failed: true, text: []byte("{")}),
		// An empty record is what the end of the connection looks like.
		"hangs up while it opens": func(image.Source) (image.Reader, error) { return nil, errors.Join(say(nil), wait()) },
		"hangs up in a read":      func(image.Source) (image.Reader, error) { return &patterned{size: 1024, hangUp: true}, nil },
		"asks for siblings without end": func(src image.Source) (image.Reader, error) {
			for {
				if _, err := src.Sibling("no"); err == nil {
					return nil, errors.New("a sibling was opened")
				}
			}
		},
		"speaks to the terminal": func(src image.Source) (image.Reader, error) {
			return nil, &image.Error{Fault: image.Corrupt, Code: "x\n", Image: src.Name(), What: "\x1b[2J\nroot# \u202e"}
		},
		"has a negative size":      func(image.Source) (image.Reader, error) { return &patterned{size: -512}, nil },
		"has an odd size":          func(image.Source) (image.Reader, error) { return &patterned{size: 513}, nil },
		"has an odd unit":          func(image.Source) (image.Reader, error) { return &patterned{size: 512, unit: 3}, nil },
		"map: a gap":               mapped(image.Extent{Offset: 512, Length: 512}),
		"map: beyond the end":      mapped(image.Extent{Length: 1 << 40}),
		"map: no length":           mapped(image.Extent{}),
		"map: backwards":           mapped(image.Extent{Length: 512}, image.Extent{Length: 512}),
		"map: an unknown kind":     mapped(image.Extent{Length: 1024, Kind: 9}),
		"map: an unknown file":     mapped(image.Extent{Length: 1024, File: 5}),
		"map: a place before all":  mapped(image.Extent{Length: 1024, Place: -5}),
		"map: nothing":             mapped(),
		"loops for ever in a read": func(image.Source) (image.Reader, error) { return &patterned{size: 1024, loop: true}, nil },
		"pattern":                  func(image.Source) (image.Reader, error) { return &patterned{size: 64<<20 + 512, unit: 65536}, nil },
		"sibling": func(src image.Source) (image.Reader, error) {
			name := make([]byte, src.Size())
			if _, err := src.ReadAt(name, 0); err != nil && err != io.EOF {
				return nil, err
			}
			sib, err := src.Sibling(string(name))
			if err != nil {
				return nil, err
			}
			_, r, err := formats.Open(context.Background(), sib, "raw", image.OpenOptions{})
			return r, err
		},
	}
}

func say(b []byte) error {
	return unix.Sendmsg(fdSocket, b, nil, nil, 0)
}

// wait blocks: the parent has to act on what was said.
func wait() error { select {} }

func answers(m message) func(image.Source) (image.Reader, error) {
	return func(image.Source) (image.Reader, error) {
		b, err := m.encode()
		if err == nil {
			err = say(b)
		}
		if err != nil {
			return nil, err
		}
		return nil, wait()
	}
}

func mapped(list ...image.Extent) func(image.Source) (image.Reader, error) {
	return func(image.Source) (image.Reader, error) { return &patterned{size: 1024, list: list, own: true}, nil }
}

// patterned is a disk whose byte at x follows from x, with every third unit a hole in its map.
type patterned struct {
	size, unit int64
	list       []image.Extent
	own, loop  bool
	hangUp     bool // the connection, and live on
}

func (p *patterned) ReadAt(b []byte, off int64) (int, error) {
	//lint:ignore SA5002 a decoder that never ends is what is wanted
	for p.loop {
	}
	if p.hangUp {
		return 0, errors.Join(say(nil), wait())
	}
	for i := range b {
		x := off + int64(i)
		if x >= p.size {
			return i, io.EOF
		}
		b[i] = byte(x ^ x>>8 ^ x>>16 ^ x>>24)
	}
	return len(b), nil
}

func (p *patterned) Extents(from int64) iter.Seq2[image.Extent, error] {
	return func(yield func(image.Extent, error) bool) {
		if p.own {
			for _, e := range p.list {
				if !yield(e, nil) {
					return
				}
			}
			return
		}
		for at := from; at < p.size; {
			n := min(512-at%512, p.size-at)
			kind := image.Data
			if at/512%3 == 0 {
				kind = image.Hole
			}
			if !yield(image.Extent{Offset: at, Length: n, Kind: kind, Place: -1}, nil) {
				return
			}
			at += n
		}
	}
}

func (p *patterned) Size() int64 { return p.size }
func (p *patterned) Info() image.Info {
	return image.Info{Format: "pattern", Size: p.size, Unit: p.unit}
}
func (p *patterned) Close() error { return nil }

// stepStream gives what it reads in pieces of 512 bytes, each 1024 after the one before.
type stepStream struct {
	r   io.Reader
	at  int64
	lie bool
}

func (s *stepStream) Next() (int64, []byte, error) {
	b := make([]byte, 512)
	if _, err := io.ReadFull(s.r, b); err != nil {
		return 0, nil, err
	}
	off := s.at
	if s.lie && off > 2048 {
		off = 0
	}
	s.at += 1024
	return off, b, nil
}

func (s *stepStream) Size() int64      { return 1 << 30 }
func (s *stepStream) Info() image.Info { return image.Info{Format: "step"} }
func (s *stepStream) Close() error     { return nil }
