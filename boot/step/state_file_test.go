package step

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestWhatIsNoFileOnTheStateDiskIsToldAndWaitedForByNobody(t *testing.T) {
	dir := t.TempDir()
	layers := filepath.Join(dir, StateLayers)
	if err := os.MkdirAll(filepath.Join(layers, "20-folder.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(layers, "30-good.yaml")
	if err := os.WriteFile(good, []byte("schema: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pipes := []string{filepath.Join(dir, StateAppliance), filepath.Join(layers, "10-pipe.yaml"), filepath.Join(dir, StateLastGood), filepath.Join(dir, "ca.pem")}
	for _, p := range pipes {
		if err := unix.Mkfifo(p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := collectState(dir)
	want := []string{pipes[0] + " is no file", pipes[1] + " is no file", filepath.Join(layers, "20-folder.yaml") + " is no file", pipes[2] + " is no file"}
	if diff := cmp.Diff(want, got.Problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if got.Own || got.LastGood != nil || len(got.Sources) != 1 || got.Sources[0].Name != good || string(got.Sources[0].Data) != "schema: 1\n" {
		t.Errorf("got %+v", got)
	}
}
