package luks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"

	"initd/hw/secret"
	"initd/tests/role"
)

func TestMain(m *testing.M) { role.Main(m, play) }

// play runs a role, one of the processes of the package doc; more of them are in the tests that need them.
func play(name string) error {
	switch name {
	case "derive":
		return playDerive()
	case "open":
		return playOpen()
	}
	return playConfined(name)
}

const (
	// firstFile is where the files of a role begin, behind its standard streams.
	firstFile = 3
	// A derive that reads the header of a volume of this name crashes, crashes when the others are through, or never comes
	// back from it, as with a crafted header.
	crashes     = "crashes"
	crashesLast = "crashes-last"
	loops       = "loops"
)

// playDerive is what the derive child of a real program does.
func playDerive() error {
	if err := secret.ProtectProcess(); err != nil && !errors.Is(err, secret.ErrNotLocked) {
		return err
	}
	var p DeriveParams
	if err := json.NewDecoder(os.Stdin).Decode(&p); err != nil {
		return err
	}
	files := inherited()
	if err := Confine(); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	var mu sync.Mutex
	var others sync.WaitGroup
	others.Add(len(p.Volumes) - 1)
	Derive(context.Background(), p, files, DeriveOptions{Keyring: SessionKeyring{}}, func(t Told) {
		switch p.Volumes[t.Volume].Name {
		case crashes:
			panic("a header that no check foresaw")
		case crashesLast:
			others.Wait()
			panic("a header that no check foresaw")
		}
		mu.Lock()
		_ = out.Encode(t)
		mu.Unlock()
		if t.Result != nil {
			others.Done()
		}
		for stuck := p.Volumes[t.Volume].Name == loops; stuck; {
			stuck = len(p.Volumes) > 0 // always: a header that a parser never gets to the end of
		}
	})
	return nil
}

func inherited() []*os.File {
	n, err := strconv.Atoi(os.Getenv("LUKS_TEST_FILES"))
	if err != nil {
		panic(err)
	}
	files := make([]*os.File, n)
	for i := range files {
		files[i] = os.NewFile(uintptr(firstFile+i), fmt.Sprintf("file %d", i))
	}
	return files
}

// deriver runs the derive role in a process of its own.
func deriver(ctx context.Context, files []*os.File, p DeriveParams, tell func(Told)) (func() error, error) {
	stdin, err := os.CreateTemp("", "params")
	if err != nil {
		return nil, err
	}
	defer os.Remove(stdin.Name())
	defer stdin.Close()
	if err := json.NewEncoder(stdin).Encode(p); err != nil {
		return nil, err
	}
	if _, err := stdin.Seek(0, 0); err != nil {
		return nil, err
	}
	cmd := roleCommand(ctx, "derive", files)
	cmd.Stdin = stdin
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() error {
		for lines := json.NewDecoder(stdout); ; {
			var t Told
			if lines.Decode(&t) != nil {
				break
			}
			tell(t)
		}
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("%w: %.200s", err, stderr.String())
		}
		return nil
	}, nil
}

func roleCommand(ctx context.Context, name string, files []*os.File) *exec.Cmd {
	cmd := role.Command(ctx, name)
	cmd.Env = append(cmd.Env, "LUKS_TEST_FILES="+strconv.Itoa(len(files)))
	cmd.ExtraFiles = files
	return cmd
}
