package main

import (
	"encoding/json"

	"github.com/rogpeppe/go-internal/testscript"

	"initd/hw/iscsi/iscsitest"
)

// portal starts a scripted login server and sets a variable to its address: portal NAME SCRIPT.json
func portal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: portal NAME SCRIPT.json")
	}
	var s iscsitest.Script
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &s))
	srv, err := iscsitest.Start("127.0.0.1:0", s)
	ts.Check(err)
	ts.Defer(srv.Close)
	ts.Setenv(args[0], srv.Address())
}
