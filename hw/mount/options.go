package mount

import (
	"strings"

	"golang.org/x/sys/unix"
)

// bits are the flags of mount(2) that an option sets and clears.
type bits struct{ set, clear uintptr }

// flags are the options that are no text for the file system
// (mount(8), FILESYSTEM-INDEPENDENT MOUNT OPTIONS).
func flags() map[string]bits {
	return map[string]bits{
		"defaults":      {},
		"ro":            {set: unix.MS_RDONLY},
		"rw":            {clear: unix.MS_RDONLY},
		"nosuid":        {set: unix.MS_NOSUID},
		"suid":          {clear: unix.MS_NOSUID},
		"nodev":         {set: unix.MS_NODEV},
		"dev":           {clear: unix.MS_NODEV},
		"noexec":        {set: unix.MS_NOEXEC},
		"exec":          {clear: unix.MS_NOEXEC},
		"sync":          {set: unix.MS_SYNCHRONOUS},
		"async":         {clear: unix.MS_SYNCHRONOUS},
		"dirsync":       {set: unix.MS_DIRSYNC},
		"mand":          {set: unix.MS_MANDLOCK},
		"noatime":       {set: unix.MS_NOATIME},
		"atime":         {clear: unix.MS_NOATIME},
		"nodiratime":    {set: unix.MS_NODIRATIME},
		"diratime":      {clear: unix.MS_NODIRATIME},
		"relatime":      {set: unix.MS_RELATIME},
		"norelatime":    {clear: unix.MS_RELATIME},
		"strictatime":   {set: unix.MS_STRICTATIME},
		"nostrictatime": {clear: unix.MS_STRICTATIME},
		"lazytime":      {set: unix.MS_LAZYTIME},
		"nolazytime":    {clear: unix.MS_LAZYTIME},
		"rbind":         {set: unix.MS_BIND | unix.MS_REC},
		"bind":          {set: unix.MS_BIND},
	}
}

// ParseOptions splits options into flags of mount(2) and the text for the
// file system. Options for other programs (x-…, _netdev, nofail, auto) are
// left out.
func ParseOptions(options []string) (flag uintptr, data string) {
	var rest []string
	known := flags()
	for _, o := range options {
		if f, ok := known[o]; ok {
			flag = flag&^f.clear | f.set
			continue
		}
		switch {
		case o == "", o == "_netdev", o == "nofail", o == "auto", o == "noauto", strings.HasPrefix(o, "x-"), strings.HasPrefix(o, "comment="):
		default:
			rest = append(rest, o)
		}
	}
	return flag, strings.Join(rest, ",")
}
