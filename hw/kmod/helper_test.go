//go:build !guest

package kmod

import "testing/fstest"

// mapTree is a folder lib/modules/RELEASE in memory.
func mapTree(files map[string][]byte) fstest.MapFS {
	tree := fstest.MapFS{}
	for name, content := range files {
		tree[name] = &fstest.MapFile{Data: content, Mode: 0o644}
	}
	return tree
}
