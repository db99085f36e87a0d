package main

import (
	"encoding/json"
	"testing"
	"time"

	"initd/v2v/convert"
	"initd/v2v/deploy"
	"initd/v2v/job"
)

func TestAJobIsToldInWords(t *testing.T) {
	encode := func(v any) json.RawMessage {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	rec := deploy.Record{Image: deploy.Template{Virtual: 3 << 30}, Target: deploy.Target{Path: "ip-192.0.2.50:3260-iscsi-iqn.x:vm-17-lun-0"}, Verified: true}
	marked := rec
	marked.Mark = &convert.Mark{Offset: 1 << 30}
	done := encode(deploy.Outcome{Record: rec, Device: "/dev/sdb", Resumed: 1 << 30, Data: 2 << 30, Took: 65 * time.Second})
	for _, tc := range []struct {
		name           string
		job            job.Job
		result, goesOn string
	}{
		{"a deploy that is done", job.Job{Spec: job.Spec{Kind: "deploy"}, State: job.Done, Result: done},
			"ip-192.0.2.50:3260-iscsi-iqn.x:vm-17-lun-0 (sdb): 3 GiB, 2 GiB of data in 65 s, resumed at 1 GiB, verified", ""},
		{"a conversion that is done", job.Job{Spec: job.Spec{Kind: "convert"}, State: job.Done,
			Result: encode(result{Target: "/x/vm.qcow2", Format: "qcow2", Size: 3 << 30, Data: 1 << 20, Seconds: 0.05})},
			"/x/vm.qcow2: qcow2, 3 GiB, 1 MiB of data in 0.1 s", ""},
		{"a deploy that waits for another worker", job.Job{Spec: job.Spec{Kind: "deploy"}, State: job.Queued, Handed: encode(marked)}, "", "1 GiB of 3 GiB"},
		{"one without a mark", job.Job{Spec: job.Spec{Kind: "deploy"}, State: job.Queued, Handed: encode(rec)}, "", ""},
		{"one that runs", job.Job{Spec: job.Spec{Kind: "deploy"}, State: job.Running, Handed: encode(marked)}, "", ""},
		{"a kind of a later version", job.Job{Spec: job.Spec{Kind: "new"}, Result: json.RawMessage(`{"a":1}`)}, `{"a":1}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := resultText(tc.job); got != tc.result {
				t.Errorf("result: got %q, want %q", got, tc.result)
			}
			if got := goesOnText(tc.job); got != tc.goesOn {
				t.Errorf("goes on at: got %q, want %q", got, tc.goesOn)
			}
		})
	}
}
