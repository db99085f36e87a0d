// Package scenario holds the tests that need whole machines: the tests of single mechanisms that only a real kernel can
// answer (hw_test.go), and the stories of an appliance, each in a file of its own. It owns no code that anything imports.
package scenario
