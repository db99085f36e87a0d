package main

import (
	"fmt"
	"io/fs"
	"path"
	"path/filepath"

	"initd/boot/appliance"
	"initd/boot/plan"
	"initd/boot/step"
	"initd/images/initramfs"
)

// Places of the appliance's file in an image.
const (
	applianceFile   = "/etc/initd/appliance.yaml"
	applianceLayers = "/etc/initd/appliance.d"
)

// anyMachine stands for the machine that will boot the image: the plan's units and what they want of an image do not
// depend on its facts, but a file that uses one does not compile without.
func anyMachine() plan.Facts {
	return plan.Facts{Serial: "any", UUID: "any", Vendor: "any", Product: "any"}
}

// specFromAppliance says what an image of the appliance holds: the file itself, what the units of its plan want, and
// what its image section and its services ask for.
func specFromAppliance(file string) (initramfs.Spec, error) {
	var s initramfs.Spec
	sources, err := appliance.ReadSources(file)
	if err != nil {
		return s, err
	}
	a, err := appliance.Parse(sources)
	if err != nil {
		return s, err
	}
	facts := anyMachine()
	if a.Firmware == appliance.FirmwareUse {
		facts.Firmware = step.AnyFirmware()
		s.Modules = append(s.Modules, initramfs.Ask{Name: "iscsi_ibft", By: "firmware: use"})
	}
	p, err := plan.Compile(a, facts, step.Kinds())
	if err != nil {
		return s, err
	}
	for i, source := range sources {
		to := applianceFile
		if i > 0 {
			to = path.Join(applianceLayers, filepath.Base(source.Name))
		}
		s.Texts = append(s.Texts, initramfs.Text{To: to, Content: source.Data, By: "the appliance"})
	}
	for _, u := range p.Units {
		addWants(&s, u.ID, u.Wants)
	}
	for _, t := range p.Templates {
		addWants(&s, t.ID, t.Wants)
	}
	addImage(&s, a, filepath.Dir(file))
	addServices(&s, a)
	return s, nil
}

func addWants(s *initramfs.Spec, by string, w plan.Wants) {
	for _, m := range w.Modules {
		s.Modules = append(s.Modules, initramfs.Ask{Name: m, By: by})
	}
	for _, p := range w.Programs {
		s.Programs = append(s.Programs, initramfs.Ask{Name: p, By: by})
	}
}

func addImage(s *initramfs.Spec, a *appliance.Appliance, dir string) {
	if a.Image == nil {
		return
	}
	for _, m := range a.Image.Modules {
		s.Modules = append(s.Modules, initramfs.Ask{Name: m, By: "image.modules"})
	}
	for _, p := range a.Image.Packages {
		s.Packages = append(s.Packages, initramfs.Ask{Name: p, By: "package " + p})
	}
	for _, f := range a.Image.Files {
		from := f.From
		if !filepath.IsAbs(from) {
			from = filepath.Join(dir, from)
		}
		mode := fileMode(f.Mode)
		if mode == 0 {
			mode = 0o644
		}
		by := "image.files"
		if f.Pos.Line > 0 {
			by = fmt.Sprintf("image.files (%s:%d)", filepath.Base(f.Pos.File), f.Pos.Line)
		}
		s.Files = append(s.Files, initramfs.File{From: from, To: f.To, Mode: mode, By: by})
	}
}

// fileMode is a mode that was written in octal, as chmod takes it.
func fileMode(m appliance.Mode) fs.FileMode {
	mode := fs.FileMode(m).Perm()
	for _, b := range []struct {
		bit  appliance.Mode
		mode fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if m&b.bit != 0 {
			mode |= b.mode
		}
	}
	return mode
}

// addServices asks for the programs and accounts of services. A program on a mounted volume is not the image's to have.
func addServices(s *initramfs.Spec, a *appliance.Appliance) {
	for _, v := range a.Services {
		by := plan.ClassService + "/" + v.Name
		for _, command := range [][]string{v.Command, v.Ready.Exec} {
			if len(command) > 0 && !mounted(a, command[0]) {
				s.Programs = append(s.Programs, initramfs.Ask{Name: command[0], By: by})
			}
		}
		if v.User != "" {
			s.Users = append(s.Users, initramfs.Ask{Name: v.User, By: by})
		}
	}
}

func mounted(a *appliance.Appliance, name string) bool {
	for _, m := range a.Mounts {
		if rest, ok := cutPath(name, m.Where); ok && rest != "" {
			return true
		}
	}
	return false
}

// cutPath returns what follows dir in name, if name is below dir.
func cutPath(name, dir string) (string, bool) {
	if len(name) > len(dir) && name[:len(dir)] == dir && name[len(dir)] == '/' {
		return name[len(dir)+1:], true
	}
	return "", false
}
