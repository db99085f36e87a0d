package step

import (
	"context"
)

func promptKey(ctx context.Context, in *ChildInput) (any, error)    { return nil, nil }
func (d *Deps) ask(ctx context.Context, unit, name, q string) error { return nil }
