package appliance

// Mount is one file system and where it goes.
type Mount struct {
	Pos     Pos      `yaml:"-"`
	What    string   `yaml:"what" doc:"luks/…, uuid/…, partlabel/… or another device; a path for type bind; nothing for tmpfs"`
	Where   string   `yaml:"where" want:"required" doc:"absolute path; / is a root whose own init gets the machine once all is ready"`
	Type    string   `yaml:"type" want:"required" doc:"ext4, xfs, tmpfs or bind"`
	Options []string `yaml:"options" doc:"as in fstab: noatime, ro, size=64M …"`
	FSCK    string   `yaml:"fsck" doc:"auto (default: repair what is safe before mounting) or never"`
	Policy  `yaml:",inline"`
}

// Service is a daemon.
type Service struct {
	Pos       Pos               `yaml:"-"`
	Name      string            `yaml:"name" want:"required" doc:"service/NAME in this file"`
	Command   []string          `yaml:"command" want:"required" doc:"program and arguments; it stays in the foreground"`
	User      string            `yaml:"user" doc:"account it runs as (default root)"`
	Group     string            `yaml:"group" doc:"group (default: the account's)"`
	Env       map[string]string `yaml:"env" private:"true" doc:"environment; never a secret"`
	Directory string            `yaml:"directory" doc:"working directory (default /)"`
	Needs     []string          `yaml:"needs" doc:"resources; a path means the mount that holds it"`
	After     []string          `yaml:"after" doc:"units to come after, whether they succeed or not"`
	Ready     Ready             `yaml:"ready" doc:"when it counts as started (default: as soon as it runs)"`
	Restart   string            `yaml:"restart" doc:"on-failure (default), always or never"`
	Stop      Stop              `yaml:"stop" doc:"how it is stopped"`
	Policy    `yaml:",inline"`
}

// Ready is how a service's readiness shows: at most one field is set.
type Ready struct {
	Exec   []string `yaml:"exec" doc:"program that exits 0 once the service is ready"`
	TCP    string   `yaml:"tcp" doc:"HOST:PORT that accepts connections"`
	Notify bool     `yaml:"notify" doc:"the service sends READY=1 to $NOTIFY_SOCKET"`
	File   string   `yaml:"file" doc:"path that appears"`
}

// Stop is how a service is asked to end.
type Stop struct {
	Signal  string   `yaml:"signal" doc:"default TERM"`
	Timeout Duration `yaml:"timeout" doc:"then KILL (default 10s)"`
}
