package link

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Read asks the kernel for the whole state.
func Read() (*State, error) {
	s := &State{}
	hw, err := openHardware()
	if err != nil {
		return nil, err
	}
	defer hw.close()
	return s, enumerate(context.Background(), hw, s.Fold)
}

// enumerateInterfaces tells how the interfaces are that there are.
func enumerateInterfaces(ctx context.Context, hw *hardware, emit func(Event)) error {
	messages, err := dump(ctx, unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC))
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, m := range messages {
		events, _ := parse(unix.RTM_NEWLINK, m)
		for _, e := range events {
			emit(hw.complete(e))
		}
	}
	return nil
}

// enumerate tells everything there is.
func enumerate(ctx context.Context, hw *hardware, emit func(Event)) error {
	emit(Event{Kind: ResetAll})
	for _, d := range []struct {
		what     string
		get, new uint16
		header   nl.NetlinkRequestData
	}{
		{"interfaces", unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC)},
		{"what routers say", unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_INET6)},
		{"addresses", unix.RTM_GETADDR, unix.RTM_NEWADDR, nl.NewIfInfomsg(unix.AF_UNSPEC)},
		{"neighbours", unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, &ndmsg{}},
	} {
		messages, err := dump(ctx, d.get, d.new, d.header)
		if err != nil {
			return fmt.Errorf("list %s: %w", d.what, err)
		}
		for _, m := range messages {
			events, _ := parse(d.new, m)
			for _, e := range events {
				emit(hw.complete(e))
			}
		}
	}
	if err := enumerateRoutes(ctx, emit); err != nil {
		return err
	}
	emit(Event{Kind: Settled})
	return nil
}

func enumerateRoutes(ctx context.Context, emit func(Event)) error {
	messages, err := dump(ctx, unix.RTM_GETROUTE, unix.RTM_NEWROUTE, nl.NewRtMsg())
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	emit(Event{Kind: ResetRoutes})
	for _, m := range messages {
		for _, r := range parseRoute(m) {
			emit(Event{Kind: RouteIs, Route: r})
		}
	}
	messages, err = dump(ctx, unix.RTM_GETRULE, unix.RTM_NEWRULE, nl.NewRtMsg())
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) { // a kernel without CONFIG_IP_MULTIPLE_TABLES
		return fmt.Errorf("list rules: %w", err)
	}
	for _, m := range messages {
		if r, ok := parseRule(m); ok {
			emit(Event{Kind: RuleIs, Rule: r})
		}
	}
	return nil
}

// dump lists objects. One that changed meanwhile (NLM_F_DUMP_INTR) is begun again.
func dump(ctx context.Context, get, answer uint16, header nl.NetlinkRequestData) ([][]byte, error) {
	for {
		request := nl.NewNetlinkRequest(int(get), unix.NLM_F_DUMP)
		request.AddData(header)
		messages, err := request.Execute(unix.NETLINK_ROUTE, answer)
		if !errors.Is(err, nl.ErrDumpInterrupted) {
			return messages, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// ndmsg is an empty struct ndmsg, which asks for the neighbours of all families and interfaces.
type ndmsg struct{}

func (ndmsg) Len() int          { return unix.SizeofNdMsg }
func (ndmsg) Serialize() []byte { return make([]byte, unix.SizeofNdMsg) }
