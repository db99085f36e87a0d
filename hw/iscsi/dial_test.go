package iscsi

import (
	"net"
	"testing"
	"time"
)

func dialFor(t *testing.T, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err == nil {
		err = c.SetDeadline(time.Now().Add(wanted))
	}
	return c, err
}
