package main

import (
	"errors"
	"fmt"

	"initd/qemu-tests/guest/event"
	"initd/qemu-tests/peer/config"
)

// listenTo obeys until the port ends. Each command is answered by the event
// done, with an error where it failed.
func (p *peer) listenTo(port *event.Port, powerOff func()) {
	for {
		var c config.Command
		if err := port.Receive(&c); err != nil {
			return
		}
		answer := map[string]any{"event": "done", "do": c.Do, "server": c.Server}
		if err := p.obey(c, powerOff); err != nil {
			answer["error"] = err.Error()
		}
		p.emit(answer)
	}
}

func (p *peer) obey(c config.Command, powerOff func()) error {
	switch c.Do {
	case "stop":
		return p.stopKeyServer(c.Server)
	case "start":
		return p.restart(c.Server)
	case "hang-up":
		return p.hangUp(c.Server)
	case "nvmet":
		if p.nvmet == nil || c.NVMet == nil {
			return errors.New("this peer is no NVMe/TCP target, or nothing is to change")
		}
		return p.nvmet.Change(*c.NVMet)
	case "lio":
		if p.lio == nil || c.LIO == nil {
			return errors.New("this peer is no iSCSI target, or nothing is to change")
		}
		return p.lio.Change(*c.LIO)
	case "power-off":
		powerOff()
		return nil
	}
	return fmt.Errorf("%q is no command: want stop, start, hang-up, nvmet, lio or power-off", c.Do)
}
