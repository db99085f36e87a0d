package main

import (
	"context"
	"os"
	"time"

	"initd/initd/pid1/client"
)

// fdStore is init's descriptor store.
type fdStore struct{ init *client.Client }

const storeTime = 10 * time.Second

func (s *fdStore) Save(name string, f *os.File) error {
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	return s.init.Store(ctx, name, 0, f)
}

func (s *fdStore) Load(name string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	return s.init.Fetch(ctx, name)
}

func (s *fdStore) Drop(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	return s.init.Drop(ctx, name)
}
