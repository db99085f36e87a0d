package step

import (
	"path"
	"strconv"
	"time"

	"initd/boot/plan"
)

// v2vProgram is the worker's.
const v2vProgram = "/usr/bin/v2v"

// expandJobs: the worker is a service, whose parent is init: what it runs does not notice a restart of the orchestrator. It begins anew
// whenever it ends, because jobs wait.
func expandJobs(x *plan.Expansion) {
	if x.Appliance.Jobs == nil || x.Appliance.Jobs.V2V == nil {
		return
	}
	const at = "jobs.v2v"
	v := x.Appliance.Jobs.V2V
	state := v.State
	if state == "" {
		state = "/var/lib/v2v"
	}
	command := []string{v2vProgram, "worker", "--slots", strconv.Itoa(v.Workers), "--dir", path.Join(state, "queue")}
	if v.NATS != "" {
		command = append(command, "--nats", v.NATS)
	}
	if v.Credentials != "" {
		command = append(command, "--creds", v.Credentials)
	}
	if v.CA != "" {
		command = append(command, "--tls-ca", v.CA)
	}
	const name = "v2v-worker"
	// A worker gives its jobs back before it ends; what does not end by itself within this time, its lease ends.
	s := ServiceSpec{Name: name, Command: command, Restart: "always", Signal: "TERM", Timeout: plan.Duration(15 * time.Second)}
	u := plan.Unit{
		ID:       plan.ClassService + "/" + name,
		Stage:    plan.Jobs,
		Provides: []plan.Resource{plan.Resource(plan.ClassService + "/" + name)},
		Policy: x.Policy(v.Policy, plan.Policy{
			Deadline: plan.Duration(time.Minute),
			Retry:    plan.Retry{Initial: plan.Duration(time.Second), Max: plan.Duration(30 * time.Second), Factor: 2, Jitter: 0.1},
		}),
		// A deploy logs in to iSCSI by itself.
		Wants: plan.Wants{Programs: []string{v2vProgram}, Modules: iscsiModules()},
	}
	seen := map[plan.Resource]bool{}
	need := func(r plan.Resource, ok bool) {
		if ok && !seen[r] {
			seen[r] = true
			u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{r}, Mode: plan.Require})
		}
	}
	for j, n := range v.Needs {
		need(x.Needed(at+".needs["+strconv.Itoa(j)+"]", n))
	}
	for _, p := range []string{v2vProgram, state, v.Credentials, v.CA} {
		if p != "" {
			need(x.MountOf(p))
		}
	}
	x.Add(at, u, s)
}
