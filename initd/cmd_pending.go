package main

import "github.com/spf13/cobra"

func statusCommand() *cobra.Command  { return &cobra.Command{Use: "status"} }
func whyCommand() *cobra.Command     { return &cobra.Command{Use: "why"} }
func analyzeCommand() *cobra.Command { return &cobra.Command{Use: "analyze"} }
