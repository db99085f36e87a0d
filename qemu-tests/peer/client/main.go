// Client is the /init of a machine that tries a peer out: it configures its
// links, asks for the time, for an address and for keys, and tells what it got.
//
// It owns nothing and knows nothing of initd but hw/kmip and hw/clock. It tells
// of keys only whether they are the expected ones.
//
// Events: {"event":"network"}, {"event":"time","minutes":M}, {"event":"lease","address":A},
// {"event":"key","id":I,"server":N,"address":A,"right":B,"code":C}, {"event":"broken","error":E}, {"event":"end"}.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"initd/hw/clock"
	"initd/hw/kmip"
	"initd/qemu-tests/guest/event"
	"initd/qemu-tests/guest/kernel"
	"initd/qemu-tests/guest/life"
	"initd/qemu-tests/guest/plan"
	"initd/qemu-tests/peer/network"
)

// guard bounds each question.
const guard = 2 * time.Minute

// task is what the image's /client.json says.
type task struct {
	Links    []network.Link    `json:"links"`
	NTP      string            `json:"ntp"`
	DHCP     bool              `json:"dhcp"` // on the last link
	Config   kmip.Config       `json:"config"`
	Requests []kmip.Request    `json:"requests"`
	Expect   map[string]string `json:"expect"` // keys in hex, by request
}

func main() {
	signal.Notify(make(chan os.Signal, 16))
	log.SetOutput(io.Discard)
	life.Live("client", work)
}

func work(port *event.Port) error {
	if err := kernel.LoadModules(plan.Modules); err != nil {
		return err
	}
	text, err := os.ReadFile("/client.json")
	if err != nil {
		return err
	}
	var t task
	if err := json.Unmarshal(text, &t); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), guard)
	defer cancel()
	names, err := network.Up(ctx, t.Links)
	if err != nil {
		return err
	}
	if err := port.Emit("network", nil); err != nil {
		return err
	}
	return errors.Join(askTime(ctx, port, t.NTP), askAddress(ctx, port, t.DHCP, names), askKeys(ctx, port, t))
}

func askTime(ctx context.Context, port *event.Port, server string) error {
	if server == "" {
		return nil
	}
	s, err := clock.Query(ctx, []string{server})
	if err != nil {
		return err
	}
	// A machine's real-time clock is read in whole seconds, so two machines are a second apart.
	return port.Emit("time", map[string]any{"minutes": int(s.Offset.Round(time.Minute).Minutes())})
}

func askAddress(ctx context.Context, port *event.Port, want bool, links []string) error {
	if !want {
		return nil
	}
	c, err := nclient4.New(links[len(links)-1])
	if err != nil {
		return err
	}
	defer c.Close()
	lease, err := c.Request(ctx)
	if err != nil {
		return err
	}
	ones, _ := net.IPMask(lease.ACK.SubnetMask()).Size()
	return port.Emit("lease", map[string]any{"address": fmt.Sprintf("%s/%d", lease.ACK.YourIPAddr, ones)})
}

func askKeys(ctx context.Context, port *event.Port, t task) error {
	for _, r := range kmip.Fetch(ctx, t.Config, t.Requests, func(e kmip.Event) { fmt.Println("client:", e) }) {
		got := map[string]any{"id": r.Request, "server": r.Server, "address": r.Address, "right": false, "code": ""}
		if r.Err != nil {
			got["code"] = string(r.Err.Code)
			fmt.Println("client:", r.Err)
		}
		for _, k := range r.Keys {
			got["right"] = hex.EncodeToString(k.Secret.Bytes()) == t.Expect[r.Request]
			k.Secret.Destroy()
		}
		if err := port.Emit("key", got); err != nil {
			return err
		}
	}
	return nil
}
