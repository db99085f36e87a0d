package nvmeof

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"initd/hw/secret"
)

// Options are what the kernel is told of a connection beyond its target. The zero value is the kernel's own choice.
type Options struct {
	Queues      int `json:"queues,omitempty"`      // I/O queues; one a CPU
	WriteQueues int `json:"writeQueues,omitempty"` // beside those
	PollQueues  int `json:"pollQueues,omitempty"`
	QueueSize   int `json:"queueSize,omitempty"` // 128

	// KeepAlive: a silent controller is noticed within it (5 s; a discovery controller has none).
	KeepAlive time.Duration `json:"keepAlive,omitempty"`
	// ReconnectDelay lies between the kernel's attempts (10 s).
	ReconnectDelay time.Duration `json:"reconnectDelay,omitempty"`
	// CtrlLoss ends them, and the disk (10 min); negative: never.
	CtrlLoss time.Duration `json:"ctrlLoss,omitempty"`
	// FastIOFail lets I/O fail while they go on; 0: it waits.
	FastIOFail time.Duration `json:"fastIOFail,omitempty"`

	HeaderDigest bool `json:"headerDigest,omitempty"`
	DataDigest   bool `json:"dataDigest,omitempty"`
	// TOS of the TCP connections, 1 to 255.
	TOS int `json:"tos,omitempty"`

	TLS     bool  `json:"tls,omitempty"`
	Keyring int32 `json:"keyring,omitempty"` // serial number of a keyring; .nvme
	TLSKey  int32 `json:"tlsKey,omitempty"`  // serial number of a key
}

// Steadfast are the options of a disk that must never fail: the kernel tries again every 2 s for ever, and I/O waits
// meanwhile. A root disk lives on nothing less; for other disks it is the default.
func Steadfast() Options {
	return Options{KeepAlive: defaultKeepAlive, ReconnectDelay: 2 * time.Second, CtrlLoss: -1}
}

// Check says which option the kernel would refuse, and what it takes.
func (o Options) Check() error {
	for _, n := range []struct {
		name           string
		v, least, most int
	}{
		{"I/O queues", o.Queues, 1, 65535},
		{"write queues", o.WriteQueues, 1, 65535},
		{"poll queues", o.PollQueues, 1, 65535},
		{"queue size", o.QueueSize, MinQueueSize, MaxQueueSize},
		{"tos", o.TOS, 1, 255},
	} {
		if n.v != 0 && (n.v < n.least || n.v > n.most) {
			return fmt.Errorf("%s %d: the kernel takes %d to %d", n.name, n.v, n.least, n.most)
		}
	}
	for _, d := range []struct {
		name string
		v    time.Duration
	}{{"keep-alive", o.KeepAlive}, {"reconnect delay", o.ReconnectDelay}, {"controller loss timeout", o.CtrlLoss}, {"fast I/O fail timeout", o.FastIOFail}} {
		if d.name == "controller loss timeout" && d.v < 0 {
			continue
		}
		if d.v < 0 || d.v%time.Second != 0 || d.v > 1<<31*time.Second-time.Second {
			return fmt.Errorf("%s %s: the kernel takes whole seconds", d.name, d.v)
		}
	}
	if (o.Keyring != 0 || o.TLSKey != 0) && !o.TLS {
		return fmt.Errorf("a keyring or key for TLS is given, but TLS is not asked for")
	}
	return nil
}

// Request is a connection to be made.
type Request struct {
	Target
	Host    Host
	Options Options
	// Lasting keeps a discovery controller that will be asked again: it notices by itself when its target is gone.
	Lasting bool
	// Secret proves this host to the subsystem by DH-HMAC-CHAP, CtrlSecret the subsystem to this host; both may be nil.
	Secret, CtrlSecret *secret.Buffer
}

// lastingKeepAlive of a discovery controller that is kept (NVMe over Fabrics 1.1, section 1.5.4: at most 2 minutes; the tools' habit).
const lastingKeepAlive = 30 * time.Second

// encode writes the request as the kernel wants it told: options in one line, split by commas, which therefore no value may
// contain. The caller destroys the result: it may hold secrets.
func (r Request) encode() (*secret.Buffer, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if err := r.Host.Check(); err != nil {
		return nil, err
	}
	if err := r.Options.Check(); err != nil {
		return nil, err
	}
	b, err := secret.New(maxOptions)
	if err != nil {
		return nil, err
	}
	w := &optionWriter{b: b}
	r.write(w)
	if w.err != nil {
		b.Destroy()
		return nil, w.err
	}
	out, err := secret.From(b.Bytes()[:w.n])
	b.Destroy()
	return out, err
}

func (r Request) write(w *optionWriter) {
	w.text("transport", "tcp")
	w.text("nqn", r.NQN)
	w.text("traddr", r.Addr.Addr().String())
	w.text("trsvcid", fmt.Sprint(r.Addr.Port())) // always: the kernel's default is the discovery port
	w.text("hostnqn", r.Host.NQN)
	w.text("hostid", r.Host.ID)
	if r.HostAddr != (netip.Addr{}) {
		w.text("host_traddr", r.HostAddr.String())
	}
	if r.HostIface != "" {
		w.text("host_iface", r.HostIface)
	}
	o := r.Options
	if r.Discovery() {
		if r.Lasting {
			w.seconds("keep_alive_tmo", lastingKeepAlive)
		}
	} else {
		w.number("nr_io_queues", o.Queues)
		w.number("nr_write_queues", o.WriteQueues)
		w.number("nr_poll_queues", o.PollQueues)
		w.seconds("keep_alive_tmo", o.KeepAlive)
	}
	w.number("queue_size", o.QueueSize)
	w.seconds("reconnect_delay", o.ReconnectDelay)
	if o.CtrlLoss < 0 {
		w.text("ctrl_loss_tmo", "-1")
	} else {
		w.seconds("ctrl_loss_tmo", o.CtrlLoss)
	}
	w.seconds("fast_io_fail_tmo", o.FastIOFail)
	w.flag("hdr_digest", o.HeaderDigest)
	w.flag("data_digest", o.DataDigest)
	w.number("tos", o.TOS)
	w.flag("tls", o.TLS)
	w.number("keyring", int(o.Keyring))
	w.number("tls_key", int(o.TLSKey))
	w.secret("dhchap_secret", r.Secret)
	w.secret("dhchap_ctrl_secret", r.CtrlSecret)
}

// optionWriter fills a buffer that nobody else sees; its errors never have a value in them that may be secret.
type optionWriter struct {
	b   *secret.Buffer
	n   int
	err error
}

func (w *optionWriter) put(name string, value []byte) {
	if w.err != nil {
		return
	}
	need := len(name) + len(value)
	if w.n > 0 {
		need++
	}
	if len(value) > 0 {
		need++
	}
	// The kernel wants to put a NUL behind it (memdup_user_nul).
	if w.n+need >= w.b.Len() {
		w.err = fmt.Errorf("the options are longer than the %d bytes that the kernel takes", maxOptions)
		return
	}
	at := w.b.Bytes()
	if w.n > 0 {
		at[w.n] = ','
		w.n++
	}
	w.n += copy(at[w.n:], name)
	if len(value) > 0 {
		at[w.n] = '='
		w.n++
		w.n += copy(at[w.n:], value)
	}
}

func (w *optionWriter) text(name, value string) {
	if strings.ContainsAny(value, ",\n\x00") && w.err == nil {
		w.err = fmt.Errorf("%s %q: a comma or a line break cannot be told to the kernel", name, value)
	}
	w.put(name, []byte(value))
}

func (w *optionWriter) number(name string, v int) {
	if v != 0 {
		w.put(name, []byte(fmt.Sprint(v)))
	}
}

func (w *optionWriter) seconds(name string, d time.Duration) { w.number(name, int(d/time.Second)) }

func (w *optionWriter) flag(name string, is bool) {
	if is {
		w.put(name, nil)
	}
}

func (w *optionWriter) secret(name string, b *secret.Buffer) {
	if b == nil || w.err != nil {
		return
	}
	text, err := CheckSecret(b)
	if err != nil {
		w.err = err
		return
	}
	w.put(name, text)
}
