package appliance

import "strings"

// Jobs are what runs in the background once the machine is up.
type Jobs struct {
	Pos Pos      `yaml:"-"`
	V2V *V2VJobs `yaml:"v2v" doc:"conversions and deploys of virtual disks"`
}

// V2VJobs is this machine's worker of v2v jobs.
type V2VJobs struct {
	Pos         Pos      `yaml:"-"`
	Workers     int      `yaml:"workers" want:"required" doc:"how many jobs run at the same time, 1 to 64"`
	NATS        string   `yaml:"nats" doc:"nats:// or tls:// URLs of the queue's cluster, with commas (default: a queue of this machine)"`
	Credentials string   `yaml:"credentials" doc:"file with the NATS credentials of this worker"`
	CA          string   `yaml:"ca" doc:"file with the authorities that are believed, of a tls:// queue"`
	State       string   `yaml:"state" doc:"directory of the queue of this machine (default /var/lib/v2v)"`
	Needs       []string `yaml:"needs" doc:"resources; a path means the mount that holds it"`
	Policy      `yaml:",inline"`
}

func (v *V2VJobs) check(c *checks, at string) {
	if c.given(at + ".workers") {
		c.within(at+".workers", v.Workers, 1, 64)
	}
	c.absolute(at+".credentials", v.Credentials)
	c.absolute(at+".ca", v.CA)
	c.absolute(at+".state", v.State)
	for _, u := range strings.Split(v.NATS, ",") {
		if v.NATS == "" {
			break
		}
		scheme, rest, ok := strings.Cut(strings.TrimSpace(u), "://")
		switch {
		case !ok || scheme != "nats" && scheme != "tls" || rest == "":
			c.fail(at+".nats", "write nats://HOST:PORT or tls://HOST:PORT", "%q is no address of a NATS server", withoutUser(u))
		case strings.Contains(rest, "@"):
			c.fail(at+".nats", "name a file in credentials", "a user or token in an address is seen by everybody")
		}
	}
	if v.NATS == "" && (v.Credentials != "" || v.CA != "") {
		c.fail(at, "add nats, or leave them out", "the queue of this machine has a key of its own, and takes no credentials and no ca")
	}
}
