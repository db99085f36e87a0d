package luks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"initd/hw/secret"
)

// role tells this test binary to play one of the processes of the package doc.
const role = "LUKS_TEST_ROLE"

func TestMain(m *testing.M) {
	if name := os.Getenv(role); name != "" {
		if err := play(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// play runs a role; more of them are in the tests that need them.
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
	// crashes makes a derive that was given a volume of this name crash, as a crafted header might.
	crashes = "crashes"
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
	for _, v := range p.Volumes {
		if v.Name == crashes {
			panic("a header that no check foresaw")
		}
	}
	return json.NewEncoder(os.Stdout).Encode(Derive(context.Background(), p, files, DeriveOptions{Keyring: SessionKeyring{}}))
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
func deriver(ctx context.Context, files []*os.File, p DeriveParams) ([]Result, error) {
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
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("%w: %.200s", err, exit.Stderr)
	}
	if err != nil {
		return nil, err
	}
	var results []Result
	return results, json.Unmarshal(out, &results)
}

func roleCommand(ctx context.Context, name string, files []*os.File) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), role+"="+name, "LUKS_TEST_FILES="+strconv.Itoa(len(files)))
	cmd.ExtraFiles = files
	return cmd
}
