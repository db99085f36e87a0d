package iscsi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// Target is a target as a portal lists it.
type Target struct {
	Name    string   `json:"name"`
	Portals []Portal `json:"portals"`
}

// Discovery asks one portal for its targets (RFC 7143, 4.3 and appendix C).
type Discovery struct {
	Portal    Portal
	Initiator string // our name
	CHAP      *CHAP  // nil: none
	Digests   bool   // offer CRC32C before None
	// Dial opens the connection; nil: the host's own way there.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Run returns the portal's targets in its order, each once. The error is a *PortalError around a *StatusError, an
// *AuthError, an *UnacceptedError, a *ProtocolError or an error of the network, or a *SettingError. ctx bounds it all,
// however slowly bytes come.
func (d Discovery) Run(ctx context.Context) ([]Target, error) {
	req := request{initiator: d.Initiator, isid: NewISID(), chap: d.CHAP}
	if d.Digests {
		req.settings.HeaderDigest, req.settings.DataDigest = []string{digestCRC, none}, []string{digestCRC, none}
	}
	at := d.Portal
	for hops := 0; ; hops++ {
		list, err := d.ask(ctx, at, req)
		var moved *RedirectError
		var wrong *SettingError
		switch {
		case err == nil:
			return list, nil
		case errors.As(err, &wrong):
			return nil, fmt.Errorf("discover targets: %w", err)
		case !errors.As(err, &moved):
			return nil, atPortal("discover targets", at.Address(), err)
		case hops == maxRedirects:
			return nil, atPortal("discover targets", d.Portal.Address(), protocol("it redirects for ever (last to %s)", moved.Address))
		}
		next, err := ParsePortal(moved.Address)
		if err != nil {
			return nil, atPortal("discover targets", at.Address(), protocol("%v", err))
		}
		at = next
	}
}

func (d Discovery) ask(ctx context.Context, at Portal, req request) ([]Target, error) {
	m, err := newMachine(req)
	if err != nil {
		return nil, err
	}
	dial := d.Dial
	if dial == nil {
		dial = func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
	}
	conn, err := dial(ctx, at.Address())
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %w", errDial, err)
	}
	defer conn.Close() // at once after a failure: a target may take one login at a time
	release := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer release()
	s := &plainSession{conn: conn}
	list, err := s.discover(m, at)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return list, err
}

// plainSession is a discovery session over a socket of our own.
type plainSession struct {
	conn    net.Conn
	digests digests
	cmdSN   uint32
	statSN  uint32
}

func (s *plainSession) discover(m *machine, at Portal) ([]Target, error) {
	for p := m.first(); p != nil; {
		p.put32(24, s.cmdSN)
		if _, err := s.conn.Write(p.encode(digests{})); err != nil {
			return nil, m.ended(err)
		}
		answer, err := readPDU(s.conn, maxLoginData, digests{})
		if err != nil {
			return nil, m.ended(err)
		}
		if p, err = m.next(answer); err != nil {
			return nil, err
		}
	}
	a := m.out.agreed
	s.digests = digests{header: a.HeaderDigest, data: a.DataDigest}
	s.statSN = m.out.statSN
	text, err := s.sendTargets(int(a.MaxRecv))
	if err != nil {
		return nil, err
	}
	s.logout()
	return parseTargets(text, at)
}

// sendTargets asks for all targets, and for the rest for as long as there is one.
func (s *plainSession) sendTargets(limit int) ([]byte, error) {
	var text []byte
	ask, tag := encodeText([]pair{{keySendTargets, "All"}}), uint32(reservedTag)
	for {
		if err := s.sendText(ask, tag); err != nil {
			return nil, err
		}
		p, err := s.textReply(limit)
		if err != nil {
			return nil, err
		}
		if len(text)+len(p.data) > maxTargets {
			return nil, protocol("a list of targets of more than %d MiB", maxTargets>>20)
		}
		text = append(text, p.data...)
		next := p.u32(20)
		more := p.flags()&flagContinue != 0 || next != reservedTag
		if !more {
			return text, nil
		}
		if p.flags()&flagTransit != 0 && next == reservedTag {
			return nil, protocol("a text that is at its end and goes on")
		}
		if len(p.data) == 0 {
			return nil, protocol("an empty part of a list of targets")
		}
		ask, tag = nil, next
	}
}

func (s *plainSession) sendText(data []byte, tag uint32) error {
	p := &pdu{}
	p.header[0] = opImmediate | opTextRequest
	p.header[1] = flagTransit
	p.put32(16, 1)
	p.put32(20, tag)
	p.put32(24, s.cmdSN)
	p.put32(28, s.statSN+1)
	p.setData(data)
	_, err := s.conn.Write(p.encode(s.digests))
	return err
}

// textReply waits for the answer to a text; a target may ask in between whether we are there.
func (s *plainSession) textReply(limit int) (*pdu, error) {
	for range maxRounds {
		p, err := readPDU(s.conn, limit, s.digests)
		if err != nil {
			return nil, err
		}
		switch p.opcode() {
		case opTextReply:
			s.statSN = p.u32(24)
			return p, nil
		case opNopIn:
			if tag := p.u32(20); tag != reservedTag {
				if err := s.pong(p, tag); err != nil {
					return nil, err
				}
			}
		case opAsync:
			s.statSN = p.u32(24)
			if event := p.header[36]; event >= 1 && event <= 3 {
				return nil, protocol("it ends the session (asynchronous event %d)", event)
			}
		case opReject:
			return nil, protocol("it rejects the question for its targets (reason 0x%02x)", p.header[2])
		default:
			return nil, protocol("it answers the question for its targets with opcode 0x%02x", p.opcode())
		}
	}
	return nil, protocol("%d messages, none of which is the list of targets", maxRounds)
}

func (s *plainSession) pong(ping *pdu, tag uint32) error {
	p := &pdu{}
	p.header[0], p.header[1] = opImmediate|opNopOut, flagTransit
	copy(p.header[8:16], ping.header[8:16])
	p.put32(16, reservedTag)
	p.put32(20, tag)
	p.put32(24, s.cmdSN)
	p.put32(28, s.statSN+1)
	p.setData(ping.data)
	_, err := s.conn.Write(p.encode(s.digests))
	return err
}

// logout says goodbye, and waits for nothing: the list is there, and the connection ends anyway.
func (s *plainSession) logout() {
	p := &pdu{}
	p.header[0], p.header[1] = opImmediate|opLogoutReq, flagTransit
	p.put32(16, 2)
	p.put32(24, s.cmdSN)
	p.put32(28, s.statSN+1)
	_, _ = s.conn.Write(p.encode(s.digests))
}

// parseTargets reads the records of an answer to SendTargets; a target without an address is at the portal asked.
func parseTargets(text []byte, asked Portal) ([]Target, error) {
	keys, err := parseText(text, maxTargets/8)
	if err != nil {
		return nil, err
	}
	list := []Target{}
	index := map[string]int{}
	at := -1
	for _, p := range keys {
		switch p.key {
		case keyTargetName:
			if err := checkName(p.value); err != nil {
				return nil, protocol("%s=%q", p.key, short(p.value))
			}
			known := false
			if at, known = index[p.value]; !known {
				at = len(list)
				index[p.value] = at
				list = append(list, Target{Name: p.value})
			}
		case keyTargetAddress:
			if at < 0 {
				return nil, protocol("an address before the first target")
			}
			portal, err := parseTargetAddress(p.value)
			if err != nil {
				return nil, err
			}
			if t := &list[at]; !slices.Contains(t.Portals, portal) {
				t.Portals = append(t.Portals, portal)
			}
		}
	}
	for i := range list {
		if len(list[i].Portals) == 0 {
			list[i].Portals = []Portal{{Host: asked.Host, Port: asked.Port, Tag: -1}}
		}
	}
	return list, nil
}
