package iscsi

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// ISID is the initiator's part of a session's identity (RFC 7143, 11.12.5).
type ISID [6]byte

func (i ISID) String() string { return hex.EncodeToString(i[:]) }

// NewISID makes a random one: the format with a random qualifier, which no other tool of this machine gives out by
// counting (open-iscsi has 00023d and a number).
func NewISID() ISID {
	var i ISID
	rand.Read(i[1:]) // never fails
	i[0] = 0x80
	return i
}

// ParseISID reads what String gives.
func ParseISID(s string) (ISID, error) {
	var i ISID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(i) {
		return i, fmt.Errorf("%q is no ISID of six bytes in hexadecimal digits", short(s))
	}
	copy(i[:], b)
	return i, nil
}

// request is what is to be logged in to.
type request struct {
	initiator string
	target    string // empty: discovery
	isid      ISID
	settings  Settings
	chap      *CHAP // nil: none
}

// loginResult is what a login has come to.
type loginResult struct {
	agreed   Agreed
	tsih     uint16
	tag      int // target portal group tag, -1 where the target did not say
	alias    string
	auth     string // None or CHAP
	statSN   uint32 // of the last response
	expCmdSN uint32
	moved    *Portal // where the target is served for good, if it said so
}

// machine is the initiator's side of one login (RFC 7143, 6.3): it is given each response and gives the next request. It
// reads and writes nothing by itself.
type machine struct {
	req    request
	stage  byte
	chap   *chapExchange
	chapAt int // 0 nothing sent, 1 method offered, 2 algorithms offered, 3 response sent, 4 done
	text   *negotiation
	joined []byte // of responses with the C bit
	rounds int
	out    loginResult
}

func newMachine(r request) (*machine, error) {
	s, err := r.settings.filled()
	if err != nil {
		return nil, err
	}
	r.settings = s
	if err := checkName(r.initiator); err != nil {
		return nil, err
	}
	m := &machine{req: r, text: newNegotiation(s, r.target == ""), out: loginResult{tag: -1, auth: none}}
	if r.chap != nil {
		if err := r.chap.check(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// checkName refuses what no initiator or target may be called (RFC 7143, 4.2.7): it would change the text around it.
func checkName(name string) error {
	if name == "" || len(name) > 223 {
		return &SettingError{"name " + fmt.Sprintf("%q", short(name)), "iSCSI names have 1 to 223 bytes"}
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c == 0x7f || c == ',' || c == '=' {
			return &SettingError{"name " + fmt.Sprintf("%q", short(name)), "iSCSI names have no spaces, commas and control characters"}
		}
	}
	return nil
}

// first gives the first request.
func (m *machine) first() *pdu {
	keys := []pair{{keyInitiatorName, m.req.initiator}}
	if m.req.target == "" {
		keys = append(keys, pair{keySessionType, "Discovery"})
	} else {
		keys = append(keys, pair{keySessionType, "Normal"}, pair{keyTargetName, m.req.target})
	}
	transit := true
	switch {
	case m.req.chap == nil:
		keys = append(keys, pair{keyAuthMethod, none})
	case m.req.chap.Mutual.Len() > 0: // the target has to prove itself: there is no way without
		keys = append(keys, pair{keyAuthMethod, authCHAP})
		transit = false
	default:
		keys = append(keys, pair{keyAuthMethod, authCHAP + "," + none})
		transit = false
	}
	m.chapAt = 1
	return m.request(keys, transit)
}

// request is a request in the present stage.
func (m *machine) request(keys []pair, transit bool) *pdu {
	p := &pdu{}
	p.header[0] = opImmediate | opLoginRequest
	p.header[1] = m.stage << 2
	if transit {
		next := byte(stageOperational)
		if m.stage == stageOperational {
			next = stageFull
		}
		p.header[1] |= flagTransit | next
	}
	copy(p.header[8:14], m.req.isid[:])
	p.put32(28, m.out.statSN+1)
	if m.rounds == 0 {
		p.put32(28, 0)
	}
	p.setData(encodeText(keys))
	return p
}

// next hears a response. The next request is nil when the login is through; the error is a *StatusError, a
// *RedirectError, an *AuthError, an *UnacceptedError or a *ProtocolError.
func (m *machine) next(p *pdu) (*pdu, error) {
	if m.rounds++; m.rounds > maxRounds {
		return nil, protocol("the login has no end: %d responses", maxRounds)
	}
	if p.opcode() == opReject {
		return nil, protocol("it rejects a login request (reason 0x%02x)", p.header[2])
	}
	if p.opcode() != opLoginReply {
		return nil, protocol("it answers a login request with opcode 0x%02x", p.opcode())
	}
	m.out.statSN, m.out.expCmdSN = p.u32(24), p.u32(28)
	class, detail := p.header[36], p.header[37]
	if class != 0 {
		return nil, m.refused(class, detail, p.data)
	}
	if !bytes.Equal(p.header[8:14], m.req.isid[:]) {
		return nil, protocol("it answers for another session (ISID %x)", p.header[8:14])
	}
	flags := p.flags()
	if stage := flags >> 2 & 3; stage != m.stage {
		return nil, protocol("it answers in stage %d of the login, where it is in stage %d", stage, m.stage)
	}
	if len(m.joined)+len(p.data) > maxJoined {
		return nil, protocol("a text of more than %d bytes in a login", maxJoined)
	}
	m.joined = append(m.joined, p.data...)
	if flags&flagContinue != 0 {
		if flags&flagTransit != 0 {
			return nil, protocol("it wants to go on and to change the stage at once")
		}
		if len(p.data) == 0 {
			return nil, protocol("an empty part of a text")
		}
		return m.request(nil, false), nil
	}
	keys, err := parseText(m.joined, maxPairs)
	if m.joined = nil; err != nil {
		return nil, err
	}
	return m.advance(keys, flags&flagTransit != 0, flags&3, p)
}

// refused is the error of a status that is no success.
func (m *machine) refused(class, detail byte, data []byte) error {
	if class == 1 {
		keys, err := parseText(data, maxPairs)
		if err != nil {
			return err
		}
		return redirect(detail, keys)
	}
	if class == 2 && detail == 1 && m.chapAt >= 3 {
		return &AuthError{Reason: "the target does not accept our response (status 0201)"}
	}
	e := &StatusError{Class: class, Detail: detail, Target: m.req.target}
	if class == 2 && detail == 0 && m.stage == stageOperational {
		e.Only = m.req.settings.insists()
	}
	return e
}

// advance hears a whole text in the present stage.
func (m *machine) advance(keys []pair, transit bool, to byte, p *pdu) (*pdu, error) {
	keys, err := m.declarations(keys)
	if err != nil {
		return nil, err
	}
	var reply []pair
	ready := false
	if m.stage == stageSecurity {
		reply, ready, err = m.security(keys)
	} else {
		reply, err = m.operational(keys)
		ready = true
	}
	if err != nil {
		return nil, err
	}
	if !transit {
		return m.request(reply, ready), nil
	}
	switch want := m.stage + 1 + m.stage; { // security 0 -> 1, operational 1 -> 3
	case !ready || len(reply) > 0:
		return nil, protocol("it ends stage %d of the login before its time", m.stage)
	case to != want: // the stage after security is 1, the one after that is 3
		return nil, protocol("it goes from stage %d of the login to stage %d, where %d was asked for", m.stage, to, want)
	}
	if m.stage = to; to == stageFull {
		m.out.tsih = p.u16(14)
		if m.out.tsih == 0 {
			return nil, protocol("it gives the session no handle (TSIH 0)")
		}
		m.out.agreed = m.text.result()
		return nil, nil
	}
	return m.request(m.text.offers(), true), nil
}

// declarations hears what a target may say of itself at any time, and returns the rest.
func (m *machine) declarations(keys []pair) (rest []pair, err error) {
	for _, p := range keys {
		switch p.key {
		case keyTargetTag:
			n, ok := number(p.value, 0, 65535)
			if !ok {
				return nil, protocol("%s=%q", p.key, short(p.value))
			}
			m.out.tag = int(n)
		case keyTargetAlias:
			m.out.alias = printable(p.value)
		case keyTargetAddress: // only of use in a redirection
		default:
			rest = append(rest, p)
		}
	}
	return rest, nil
}

// operational hears answers and proposals, and gives the answers to the latter.
func (m *machine) operational(keys []pair) (reply []pair, err error) {
	for _, p := range keys {
		r, err := m.text.take(p)
		if err != nil {
			return nil, err
		}
		if r != "" {
			reply = append(reply, pair{p.key, r})
		}
	}
	return reply, nil
}

// security hears a text of the first stage. ready: nothing is left to say in it.
func (m *machine) security(list []pair) (reply []pair, ready bool, err error) {
	keys := map[string]string{}
	for _, p := range list {
		if _, twice := keys[p.key]; twice {
			return nil, false, protocol("%s is said twice", p.key)
		}
		keys[p.key] = p.value
		switch p.key {
		case keyAuthMethod, keyCHAPAlgorithm, keyCHAPIdent, keyCHAPChallenge, keyCHAPName, keyCHAPResponse:
		default: // operational keys do not belong here; what is not known is said so
			reply = append(reply, pair{p.key, answerNotUnderstood})
		}
	}
	switch m.chapAt {
	case 1:
		return m.method(keys, reply)
	case 2:
		answer, err := m.chap.answer(keys)
		m.chapAt = 3
		return append(reply, answer...), true, err
	case 3:
		m.chapAt = 4
		return reply, true, m.chap.verify(keys)
	}
	return reply, true, nil
}

// method hears which method of authentication the target has chosen.
func (m *machine) method(keys map[string]string, reply []pair) ([]pair, bool, error) {
	method, said := keys[keyAuthMethod]
	wants := m.req.chap != nil
	switch {
	case method == authCHAP && wants:
		m.out.auth = authCHAP
		m.chap = newCHAPExchange(m.req.chap)
		m.chapAt = 2
		return append(reply, m.chap.first()), false, nil
	case wants && m.req.chap.Mutual.Len() > 0 && (method == none || !said):
		return nil, false, &AuthError{Target: true, Reason: "the target wants no authentication, so it does not prove itself either"}
	case method == none, !said && !wants: // one that has nothing to say about it takes what was offered
		m.chapAt = 4
		return reply, true, nil
	case method == answerReject || method == authCHAP:
		return nil, false, &AuthError{Reason: "the target wants another authentication than was offered (none without a user and a secret)"}
	}
	return nil, false, protocol("%s=%q was not offered", keyAuthMethod, short(method))
}
