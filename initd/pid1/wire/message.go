package wire

// Capabilities of init, in Hello.
const (
	CapWatchdog uint64 = 1 << iota // a watchdog device is open
	CapCgroup                      // the cgroup2 tree is there: groups can be killed
	CapPower                       // init is PID 1 of the machine, not of a namespace
)

// Hello begins a connection; the orchestrator may repeat it to learn the
// counters. Fields after Capabilities are init's, but for Silence.
type Hello struct {
	Min, Max uint16 // the versions that the sender speaks
	// Version is the one that both use from now on; init's.
	Version      uint16
	Capabilities uint64
	// Generation counts the orchestrators of this boot from 1: it is the
	// leadership, and init holds it.
	Generation uint64
	// Silence is for how long, in milliseconds, the orchestrator's heartbeat
	// may fail before it counts as hung: it is killed and started again, and
	// the watchdog is not fed meanwhile. Zero means 30 s.
	Silence uint32
	Deaths  uint32 // orchestrators that died without being asked to
	Orphans uint64 // processes reaped that nobody here had started
	Unacked uint32 // Exited records that follow this Hello
	// Pending is the way down that somebody asked for and nobody took yet.
	Pending Kind
	// Busy counts what survived SIGKILL from generations before: processes
	// that sleep in the kernel. BusyPIDs are the first MaxBusy of them.
	Busy     uint32
	BusyPIDs []uint32
	Program  string // "init 1.2": for reports
}

// Op returns OpHello.
func (*Hello) Op() Op { return OpHello }
func (m *Hello) put(w *writer) {
	w.u16(m.Min)
	w.u16(m.Max)
	w.u16(m.Version)
	w.u16(0)
	w.u64(m.Capabilities)
	w.u64(m.Generation)
	w.u32(m.Silence)
	w.u32(m.Deaths)
	w.u64(m.Orphans)
	w.u32(m.Unacked)
	w.u32(uint32(m.Pending))
	w.u32(m.Busy)
	list := m.BusyPIDs[:min(len(m.BusyPIDs), MaxBusy)]
	w.u32(uint32(len(list)))
	area := writer{b: w.take(4 * MaxBusy)}
	for _, p := range list {
		area.u32(p)
	}
	w.name(m.Program, MaxName)
}

func (m *Hello) get(r *reader) {
	m.Min, m.Max, m.Version = r.u16(), r.u16(), r.u16()
	r.u16()
	m.Capabilities, m.Generation = r.u64(), r.u64()
	m.Silence, m.Deaths, m.Orphans, m.Unacked = r.u32(), r.u32(), r.u64(), r.u32()
	m.Pending, m.Busy = Kind(r.u32()), r.u32()
	n := r.u32()
	area := reader{b: r.take(4 * MaxBusy)}
	if n > MaxBusy {
		r.bad = true
		return
	}
	for range n {
		m.BusyPIDs = append(m.BusyPIDs, area.u32())
	}
	m.Program = r.name(MaxName)
}

// Answer ends a request. Errno zero is success.
type Answer struct {
	Errno uint32
	Text  string // what init has to say about a failure
}

// Op returns OpAnswer.
func (*Answer) Op() Op          { return OpAnswer }
func (m *Answer) put(w *writer) { w.u32(m.Errno); w.text(m.Text) }
func (m *Answer) get(r *reader) { m.Errno, m.Text = r.u32(), r.text() }

// Spawn asks for a process. The first descriptor is a memfd with a Spec, the
// others are those that the Spec's Files place. Name is unique among the
// processes that run or whose Exited is not acknowledged.
type Spawn struct {
	Name string
	// Group is the cgroup, relative to initd's own: "services/redis". The
	// stub makes and joins it.
	Group string
}

// Op returns OpSpawn.
func (*Spawn) Op() Op          { return OpSpawn }
func (m *Spawn) put(w *writer) { w.name(m.Name, MaxName); w.name(m.Group, MaxPath) }
func (m *Spawn) get(r *reader) { m.Name, m.Group = r.name(MaxName), r.name(MaxPath) }

// Spawned answers Spawn, with a pidfd.
type Spawned struct {
	ID      uint64 // names the process in this boot; never used again
	PID     uint32
	Started uint64 // CLOCK_BOOTTIME, ns
}

// Op returns OpSpawned.
func (*Spawned) Op() Op          { return OpSpawned }
func (m *Spawned) put(w *writer) { w.u64(m.ID); w.u32(m.PID); w.u64(m.Started) }
func (m *Spawned) get(r *reader) { m.ID, m.PID, m.Started = r.u64(), r.u32(), r.u64() }

// Running tells that the program has been loaded and runs. Until then the
// process is init's stub, which may wait for a dead disk.
type Running struct{ ID uint64 }

// Op returns OpRunning.
func (*Running) Op() Op          { return OpRunning }
func (m *Running) put(w *writer) { w.u64(m.ID) }
func (m *Running) get(r *reader) { m.ID = r.u64() }

// Signal sends a signal to a process, or to everything in its cgroup.
type Signal struct {
	ID     uint64
	Number uint32
	Whole  bool
}

// Op returns OpSignal.
func (*Signal) Op() Op          { return OpSignal }
func (m *Signal) put(w *writer) { w.u64(m.ID); w.u32(m.Number); w.bool(m.Whole) }
func (m *Signal) get(r *reader) { m.ID, m.Number, m.Whole = r.u64(), r.u32(), r.bool() }

// Exited tells how a process ended. It is sent again to each new orchestrator
// until it is acknowledged.
type Exited struct {
	ID     uint64
	PID    uint32
	Name   string
	Status uint32 // as wait4(2) gives it
	// Stage and Errno say where the stub failed, when the program was never
	// loaded. Stage is zero otherwise.
	Stage  Stage
	Errno  uint32
	User   uint64 // CPU time, µs
	System uint64 // CPU time, µs
	MaxRSS uint64 // KiB
	// Started and Ended are CLOCK_BOOTTIME, ns.
	Started, Ended uint64
	// Left tells that processes are left in its cgroup.
	Left bool
}

// Op returns OpExited.
func (*Exited) Op() Op { return OpExited }
func (m *Exited) put(w *writer) {
	w.u64(m.ID)
	w.u32(m.PID)
	w.u32(m.Status)
	w.name(m.Name, MaxName)
	w.u16(uint16(m.Stage))
	w.u32(m.Errno)
	w.u64(m.User)
	w.u64(m.System)
	w.u64(m.MaxRSS)
	w.u64(m.Started)
	w.u64(m.Ended)
	w.bool(m.Left)
}

func (m *Exited) get(r *reader) {
	m.ID, m.PID, m.Status, m.Name = r.u64(), r.u32(), r.u32(), r.name(MaxName)
	m.Stage, m.Errno = Stage(r.u16()), r.u32()
	m.User, m.System, m.MaxRSS = r.u64(), r.u64(), r.u64()
	m.Started, m.Ended, m.Left = r.u64(), r.u64(), r.bool()
}

// Ack lets init forget a process that has ended.
type Ack struct{ ID uint64 }

// Op returns OpAck.
func (*Ack) Op() Op          { return OpAck }
func (m *Ack) put(w *writer) { w.u64(m.ID) }
func (m *Ack) get(r *reader) { m.ID = r.u64() }

// Service describes one process that init knows, in a list; with a pidfd
// while it has not ended.
type Service struct {
	ID      uint64
	PID     uint32
	Name    string
	Group   string
	State   State
	Started uint64 // CLOCK_BOOTTIME, ns
}

// Op returns OpService.
func (*Service) Op() Op { return OpService }
func (m *Service) put(w *writer) {
	w.u64(m.ID)
	w.u32(m.PID)
	w.u16(uint16(m.State))
	w.name(m.Name, MaxName)
	w.name(m.Group, MaxPath)
	w.u64(m.Started)
}

func (m *Service) get(r *reader) {
	m.ID, m.PID, m.State = r.u64(), r.u32(), State(r.u16())
	m.Name, m.Group, m.Started = r.name(MaxName), r.name(MaxPath), r.u64()
}

// State of a process that init knows.
type State uint16

// The states of a process.
const (
	StateLoading State = 1 // the stub has not executed the program yet
	StateRunning State = 2
	StateExited  State = 3 // its Exited waits for an Ack
)

// List asks for everything that init keeps.
type List struct{}

// Op returns OpList.
func (*List) Op() Op      { return OpList }
func (*List) put(*writer) {}
func (*List) get(*reader) {}
