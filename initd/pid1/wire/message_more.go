package wire

// Flags of a stored descriptor.
const (
	// FlagDrain: a pipe that init reads from and forgets while no
	// orchestrator stays up, so that whoever writes to it does not block.
	FlagDrain uint32 = 1 << iota
)

// Store keeps the one descriptor beside it under a name, over the death of
// the orchestrator. One that had the name before is closed.
type Store struct {
	Name  string
	Flags uint32
}

// Op returns OpStore.
func (*Store) Op() Op          { return OpStore }
func (m *Store) put(w *writer) { w.name(m.Name, MaxName); w.u32(m.Flags) }
func (m *Store) get(r *reader) { m.Name, m.Flags = r.name(MaxName), r.u32() }

// Fetch asks for a copy of a stored descriptor.
type Fetch struct{ Name string }

// Op returns OpFetch.
func (*Fetch) Op() Op          { return OpFetch }
func (m *Fetch) put(w *writer) { w.name(m.Name, MaxName) }
func (m *Fetch) get(r *reader) { m.Name = r.name(MaxName) }

// Stored names a stored descriptor.
type Stored struct {
	Name  string
	Flags uint32
}

// Op returns OpStored.
func (*Stored) Op() Op          { return OpStored }
func (m *Stored) put(w *writer) { w.name(m.Name, MaxName); w.u32(m.Flags) }
func (m *Stored) get(r *reader) { m.Name, m.Flags = r.name(MaxName), r.u32() }

// Drop closes a stored descriptor.
type Drop struct{ Name string }

// Op returns OpDrop.
func (*Drop) Op() Op          { return OpDrop }
func (m *Drop) put(w *writer) { w.name(m.Name, MaxName) }
func (m *Drop) get(r *reader) { m.Name = r.name(MaxName) }

// Heartbeat tells that the engine's own loop turns.
type Heartbeat struct{ Count uint64 }

// Op returns OpHeartbeat.
func (*Heartbeat) Op() Op          { return OpHeartbeat }
func (m *Heartbeat) put(w *writer) { w.u64(m.Count) }
func (m *Heartbeat) get(r *reader) { m.Count = r.u64() }

// Watchdog opens and arms a device, sets the timeout of an open one, or
// closes it so that it does not reset the machine.
type Watchdog struct {
	Device  string // "/dev/watchdog"; empty: the one that is open
	Timeout uint32 // seconds; zero leaves the driver's
	Close   bool
}

// Op returns OpWatchdog.
func (*Watchdog) Op() Op          { return OpWatchdog }
func (m *Watchdog) put(w *writer) { w.name(m.Device, MaxPath); w.u32(m.Timeout); w.bool(m.Close) }
func (m *Watchdog) get(r *reader) { m.Device, m.Timeout, m.Close = r.name(MaxPath), r.u32(), r.bool() }

// Failure tells that the failure screen is up, or no longer. While it is, the
// watchdog is fed for a limited time only, counted from the first such record
// or the last one with Typing.
type Failure struct {
	Active bool
	Typing bool // somebody is at the keyboard
}

// Op returns OpFailure.
func (*Failure) Op() Op          { return OpFailure }
func (m *Failure) put(w *writer) { w.bool(m.Active); w.bool(m.Typing) }
func (m *Failure) get(r *reader) { m.Active, m.Typing = r.bool(), r.bool() }

// Kind is a way down.
type Kind uint32

// The ways down.
const (
	KindPowerOff Kind = 1
	KindReboot   Kind = 2
	KindHalt     Kind = 3
	KindKExec    Kind = 4 // into the kernel that was loaded with kexec_load
)

// Valid tells whether the kind is one that init knows.
func (k Kind) Valid() bool { return k >= KindPowerOff && k <= KindKExec }

func (k Kind) String() string {
	switch k {
	case KindPowerOff:
		return "poweroff"
	case KindReboot:
		return "reboot"
	case KindHalt:
		return "halt"
	case KindKExec:
		return "kexec"
	}
	return "none"
}

// Going tells that the orchestrator takes the machine down and is done Within
// milliseconds at the latest; init ends it by itself if no Reboot has come
// then. Kind zero takes it back.
type Going struct {
	Kind   Kind
	Within uint32
}

// Op returns OpGoing.
func (*Going) Op() Op          { return OpGoing }
func (m *Going) put(w *writer) { w.u32(uint32(m.Kind)); w.u32(m.Within) }
func (m *Going) get(r *reader) { m.Kind, m.Within = Kind(r.u32()), r.u32() }

// Reboot is the orchestrator's last record: everything is taken down, end it.
type Reboot struct{ Kind Kind }

// Op returns OpReboot.
func (*Reboot) Op() Op          { return OpReboot }
func (m *Reboot) put(w *writer) { w.u32(uint32(m.Kind)) }
func (m *Reboot) get(r *reader) { m.Kind = Kind(r.u32()) }

// Restart announces that the orchestrator exits and wants to be started
// again, from another path if one is given: an upgrade.
type Restart struct{ Path string }

// Op returns OpRestart.
func (*Restart) Op() Op          { return OpRestart }
func (m *Restart) put(w *writer) { w.name(m.Path, MaxPath) }
func (m *Restart) get(r *reader) { m.Path = r.name(MaxPath) }

// SwitchRoot announces that the orchestrator exits and that another init, below
// the mount point Root, is to be PID 1 then. It is refused with EBUSY while
// services run: they would be nobody's. Where the hand-over fails, init starts
// the next orchestrator as after Restart, and an EventNote says why.
type SwitchRoot struct {
	Root string // "/sysroot"
	Init string // as the new root sees it: "/sbin/init"
	// Adopt: [AdoptPath] is started in the new root before Init is executed,
	// as "@initd boot --adopt", without a socket.
	Adopt bool
}

// AdoptPath is where the orchestrator leaves its own image for its successor
// in the new root; /run goes along.
const AdoptPath = "/run/initd/bin/initd"

// Op returns OpSwitchRoot.
func (*SwitchRoot) Op() Op { return OpSwitchRoot }
func (m *SwitchRoot) put(w *writer) {
	w.name(m.Root, MaxPath)
	w.name(m.Init, MaxPath)
	w.bool(m.Adopt)
}

func (m *SwitchRoot) get(r *reader) {
	m.Root, m.Init, m.Adopt = r.name(MaxPath), r.name(MaxPath), r.bool()
}

// EventKind says what happened.
type EventKind uint32

// The events.
const (
	// EventAsked: somebody asks for a way down; Value is its Kind. The
	// orchestrator says Going soon, or init does it alone.
	EventAsked EventKind = 1
	// EventSignal: PID 1 got a signal that asks for nothing; Value is its number.
	EventSignal EventKind = 2
	// EventPower: the power supply fails (SIGPWR); EventAsked follows when
	// nobody takes it.
	EventPower EventKind = 3
	// EventNote: init has something to say that belongs into the report.
	EventNote EventKind = 4
)

// Event tells the orchestrator what init noticed.
type Event struct {
	Kind  EventKind
	Value uint64
	Text  string
}

// Op returns OpEvent.
func (*Event) Op() Op          { return OpEvent }
func (m *Event) put(w *writer) { w.u32(uint32(m.Kind)); w.u64(m.Value); w.text(m.Text) }
func (m *Event) get(r *reader) { m.Kind, m.Value, m.Text = EventKind(r.u32()), r.u64(), r.text() }

// Stage is a step of the stub between fork and exec.
type Stage uint16

// The stages of the stub, in their order.
const (
	StageSpec   Stage = 1 // reading the spec
	StageGroup  Stage = 2 // joining the cgroup
	StageFiles  Stage = 3 // placing the descriptors
	StageLimits Stage = 4 // resource limits, umask, OOM score
	StageUser   Stage = 5 // user and groups
	StageDir    Stage = 6 // working directory
	StageExec   Stage = 7 // executing the program
)

func (s Stage) String() string {
	switch s {
	case 0:
		return "none"
	case StageSpec:
		return "read its spec"
	case StageGroup:
		return "join its cgroup"
	case StageFiles:
		return "place its descriptors"
	case StageLimits:
		return "set its limits"
	case StageUser:
		return "become its user"
	case StageDir:
		return "enter its directory"
	case StageExec:
		return "execute it"
	}
	return "unknown stage"
}
