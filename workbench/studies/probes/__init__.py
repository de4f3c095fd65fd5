"""The probe bench as a study."""
