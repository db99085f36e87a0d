package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Exists tells whether a path is there; a child looks, because it may lie on
// a device that does not answer.
func Exists(ctx context.Context, c Children, path string) (bool, error) {
	r, err := c.Run(ctx, Call{Func: "exists", Unit: path, Params: path, Objects: []string{path}})
	if err != nil {
		return false, err
	}
	var is bool
	if err := json.Unmarshal(r.Result, &is); err != nil {
		return false, fmt.Errorf("look for %s: %w", path, err)
	}
	return is, nil
}

// lookFor is the child exists.
func lookFor(_ context.Context, _ *ChildInput, path string) (any, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
