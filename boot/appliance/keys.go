package appliance

// Keys is the section of key servers.
type Keys struct {
	Pos         Pos         `yaml:"-"`
	TLS         TLS         `yaml:"tls" private:"true" doc:"certificates for all servers; a server may differ"`
	DefaultName string      `yaml:"default-name" doc:"name of a key on the server (default ${machine.name}/${unit.name})"`
	Servers     []KeyServer `yaml:"servers" doc:"KMIP servers, in order of preference"`
}

// TLS says where certificates lie. Paths are relative to the state disk's
// or the appliance file's folder; no secret stands in the file itself.
type TLS struct {
	CA   string `yaml:"ca" doc:"PEM bundle of authorities; two may overlap in a rollover"`
	Cert string `yaml:"cert" doc:"client certificate, PEM"`
	Key  string `yaml:"key" doc:"client's private key, PEM"`
	Pin  string `yaml:"pin" doc:"sha256:HEX over the server's public key (SubjectPublicKeyInfo)"`
}

// KeyServer is one KMIP server.
type KeyServer struct {
	Pos        Pos      `yaml:"-"`
	Name       string   `yaml:"name" want:"required" doc:"what this file calls it"`
	Address    string   `yaml:"address" want:"required" doc:"HOST:PORT; 5696 is KMIP's port"`
	ServerName string   `yaml:"server-name" doc:"name in the server's certificate, where it is not HOST"`
	Group      string   `yaml:"group" doc:"servers that hold the same keys (default: default)"`
	TLS        *TLS     `yaml:"tls" private:"true" doc:"what differs from keys.tls"`
	Timeout    Duration `yaml:"timeout" doc:"bound of one dial (default 1s in the first minute, then 5s)"`
}

// KeySource is where a unit's key comes from: exactly one field is set.
// In a file: kmip | ephemeral | prompt | {kmip: {…}} | {file: PATH} | {prompt: TEXT}.
type KeySource struct {
	Pos       Pos
	KMIP      *KMIPKey
	Ephemeral bool
	Prompt    string // the question; "-" for the default one
	File      string
}

// Given tells whether the key is there at all.
func (k KeySource) Given() bool {
	return k.KMIP != nil || k.Ephemeral || k.Prompt != "" || k.File != ""
}

// KMIPKey selects one object on the servers of a group.
type KMIPKey struct {
	Name        string            `yaml:"name" doc:"Name attribute (default: keys.default-name)"`
	ID          string            `yaml:"id" doc:"unique identifier"`
	ObjectGroup string            `yaml:"object-group" doc:"ObjectGroup attribute"`
	Attributes  map[string]string `yaml:"attributes" doc:"custom attributes (x-…)"`
	Servers     string            `yaml:"servers" doc:"group of servers (default: default)"`
}

// Media is the section of encrypted media.
type Media struct {
	Pos  Pos    `yaml:"-"`
	LUKS []LUKS `yaml:"luks" doc:"LUKS1 and LUKS2 volumes"`
}

// LUKS is one volume to open as /dev/mapper/NAME.
type LUKS struct {
	Pos      Pos       `yaml:"-"`
	Name     string    `yaml:"name" want:"required" doc:"name of the mapping: /dev/mapper/NAME, luks/NAME in this file"`
	Device   string    `yaml:"device" want:"required" doc:"uuid/…, partlabel/…, partuuid/…, path/…, id/…, luks/… or another resource"`
	Header   string    `yaml:"header" doc:"device that holds a detached header"`
	Key      KeySource `yaml:"key" want:"required" private:"true" doc:"kmip, ephemeral, prompt, {kmip: …}, {file: PATH}"`
	Discards bool      `yaml:"discards" doc:"pass discards down (default false)"`
	ReadOnly bool      `yaml:"read-only" doc:"open without write access"`
	Policy   `yaml:",inline"`
}
