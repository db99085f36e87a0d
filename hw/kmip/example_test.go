package kmip_test

import (
	"context"
	"fmt"
	"time"

	"initd/hw/kmip"
)

// Two servers of one group, one key by name: whoever answers first gives it.
func ExampleFetchEach() {
	identity := kmip.TLS{CA: kmip.Source{Path: "pki/ca-bundle.pem"}, Cert: kmip.Source{Path: "pki/store-07.pem"}, Key: kmip.KeySource{Path: "pki/store-07.key"}}
	cfg := kmip.Config{Servers: []kmip.Server{
		{Name: "kms-a", Address: "kms-a.example.net:5696", TLS: identity},
		{Name: "kms-b", Address: "192.0.2.22:5696", ServerName: "kms-b.example.net", TLS: identity},
	}}
	requests := []kmip.Request{{ID: "tank0", Selector: kmip.Selector{Name: "store-07/tank0"}}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	progress := func(e kmip.Event) { fmt.Println(e) }
	kmip.FetchEach(ctx, cfg, requests, progress, func(_ int, r kmip.Result) {
		if r.Err != nil {
			fmt.Println(r.Err)
			return
		}
		defer r.Keys[0].Secret.Destroy()
		fmt.Println(r.Request, "is here:", r.Keys[0].Secret.Len(), "bytes from", r.Server)
	})
}
